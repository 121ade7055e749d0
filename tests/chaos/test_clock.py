"""A running process sees the wall clock jump, and the monotonic one go on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.clock import Clock, can_compile

ASKED = """
import datetime, sys, time
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now().timestamp(), time.monotonic(), flush=True)
"""

WAITS = """
import ctypes, time
library = ctypes.CDLL(None)
condition, lock = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
library.cnd_init(condition), library.mtx_init(lock, 0), library.mtx_lock(lock)
until = time.time() + 0.05
library.cnd_timedwait(condition, lock, (ctypes.c_long * 2)(int(until), int(until % 1 * 1e9)))
"""


@pytest.mark.skipif(not can_compile(), reason="needs a C compiler; without one the chaos run has no jumps")
def test_the_wall_clock_jumps_forth_and_back_and_the_monotonic_one_does_not(tmp_path: Path):
    clock = Clock(tmp_path / "clock")
    command = clock.command([sys.executable, "-c", ASKED])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        for seconds in (0, 600, -600, 0):
            clock.jump(seconds)
            child.stdin.write("now\n")
            child.stdin.flush()
            wall, date, monotonic = map(float, child.stdout.readline().split())
            assert wall == pytest.approx(time.time() + seconds, abs=60)
            assert date == pytest.approx(wall, abs=60)
            assert monotonic == pytest.approx(time.monotonic(), abs=60)
        child.stdin.close()
        assert child.wait(20) == 0


@pytest.mark.skipif(not can_compile(), reason="needs a C compiler; without one the chaos run has no jumps")
def test_who_waits_until_a_moment_of_this_clock_waits_no_longer_by_it(tmp_path: Path):
    clock = Clock(tmp_path / "clock")
    clock.jump(600)
    subprocess.run(clock.command([sys.executable, "-c", WAITS]), timeout=60, check=True)
