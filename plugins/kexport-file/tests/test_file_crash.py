"""The file sink interrupted: torn ends, full disks, cancelled writes; no part of a batch is ever left."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from kexport import ConfigError, TransientError
from kexport.testing import SinkLog

from .file_arrangement import build, events, lines, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def log() -> SinkLog:
    return SinkLog()


@pytest.mark.parametrize("whole", [0, 3])
@pytest.mark.parametrize("torn_bytes", [1, 200, 300_000])
async def test_a_torn_last_line_is_cut_off(path: Path, whole: int, torn_bytes: int, log: SinkLog) -> None:
    torn = b"{" + b"x" * (torn_bytes - 1)
    path.write_bytes(lines(events(1, whole)) + torn)
    async with opened(path, log=log) as sink:
        assert path.read_bytes() == lines(events(1, whole))
        await sink.write(events(4, 4))
    assert path.read_bytes() == lines(events(1, whole)) + lines(events(4, 4))
    assert [(level, fields["bytes_cut"]) for level, _, fields in log.entries] == [("warning", torn_bytes)]


async def test_zeros_that_a_power_cut_left_are_cut_off_with_their_line_and_all_behind(path: Path) -> None:
    good, last = lines(events(1, 3)), lines(events(4, 5))
    path.write_bytes(good + last[:50] + b"\0" * 4096 + last[50:])
    async with opened(path):
        assert path.read_bytes() == good


async def test_healing_reads_only_the_end_of_a_huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 * 1024**3)  # sparse: reading it all would take longer than this test may
        file.seek(0, os.SEEK_END)
        whole = b"\n" + lines(events(1, 10)) * 6_000
        file.write(whole + b'{"torn')
    async with opened(path):
        assert path.stat().st_size == 20 * 1024**3 + len(whole)


async def test_a_file_of_something_else_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"\x7fELF no newline")
    with pytest.raises(ConfigError, match="no file of JSON lines"):
        async with opened(path):
            pass
    assert path.read_bytes() == b"\x7fELF no newline"


def full_after(monkeypatch: pytest.MonkeyPatch, room: int, *, undo: bool = True) -> None:
    write, left = os.write, room

    def limited(fd: int, data: memoryview) -> int:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(fd, data[:left])
        left -= count
        return count

    def refused(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", limited)
    if not undo:
        monkeypatch.setattr(os, "ftruncate", refused)


@pytest.mark.parametrize("room", [0, 1, 1500])
@pytest.mark.parametrize("undo", [True, False])
async def test_a_full_disk_leaves_no_part_of_the_batch(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int, undo: bool
) -> None:
    async with opened(path) as sink:
        await sink.write(events(1, 2))
        with monkeypatch.context() as patch:
            full_after(patch, room, undo=undo)
            with pytest.raises(TransientError, match="no room") as failure:
                await sink.write(events(3, 9))
        assert failure.value.written == 0
        if undo:
            assert path.read_bytes() == lines(events(1, 2))
        await sink.write(events(3, 9))
        assert path.read_bytes() == lines(events(1, 9))


async def test_a_tail_that_could_not_be_cut_off_is_cut_off_at_close(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as sink:
        await sink.write(events(1, 2))
        with monkeypatch.context() as patch:
            full_after(patch, 1500, undo=False)
            with pytest.raises(TransientError):
                await sink.write(events(3, 9))
        assert path.read_bytes() != lines(events(1, 2))
    assert path.read_bytes() == lines(events(1, 2))


async def test_a_failed_fsync_takes_the_batch_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with opened(path) as sink:
        await sink.write(events(1, 2))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            with pytest.raises(TransientError, match="Input/output error"):
                await sink.write(events(3, 4))
        assert path.read_bytes() == lines(events(1, 2))


FILE_LIMIT = """
import asyncio, resource, sys
import kexport_file
from typing import Any
from kexport import SinkContext, TransientError
from kexport.testing import make_event

async def main():
    sink = kexport_file.build(kexport_file.FileConfig(path=sys.argv[1]), SinkContext("audit", "test", None))
    await sink.open()
    await sink.write([make_event(1)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        await sink.write([make_event(n) for n in range(2, 20)])
    except TransientError as error:
        print(error)
    await sink.close()

asyncio.run(main())
"""


def test_a_limit_of_the_kernel_in_the_middle_of_a_line_leaves_no_part_of_it(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(path)], capture_output=True, text=True, check=True
    )
    assert "no room to write" in done.stdout
    assert path.read_bytes() == lines(events(1, 1))


async def test_a_cancelled_write_is_whole_and_the_next_one_waits_for_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on, sync = threading.Event(), threading.Event(), os.fdatasync

    def slow(fd: int) -> None:
        started.set()
        assert go_on.wait(30)
        sync(fd)

    async with opened(path) as sink:
        monkeypatch.setattr(os, "fdatasync", slow)
        async with asyncio.TaskGroup() as group:
            cancelled = group.create_task(sink.write(events(1, 3)))
            await asyncio.to_thread(started.wait)
            cancelled.cancel()
            with suppress(asyncio.CancelledError):
                await cancelled
            group.create_task(sink.write(events(1, 4)))
            go_on.set()
    assert path.read_bytes() == lines(events(1, 3)) + lines(events(1, 4))


async def test_writes_that_are_given_up_while_the_disk_hangs_leave_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on, sync = threading.Event(), threading.Event(), os.fdatasync

    def hang(fd: int) -> None:
        started.set()
        assert go_on.wait(30)
        sync(fd)

    async with opened(path) as sink:
        monkeypatch.setattr(os, "fdatasync", hang)
        first = asyncio.create_task(sink.write(events(1, 3)))
        await asyncio.to_thread(started.wait)
        for task in (first, *(asyncio.create_task(sink.write(events(1, 3))) for _ in range(5))):
            await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert sink._writer._pool._work_queue.qsize() == 0
        retry = asyncio.create_task(sink.write(events(1, 4)))
        await asyncio.sleep(0)
        go_on.set()
        await retry
    assert path.read_bytes() == lines(events(1, 3)) + lines(events(1, 4))


async def test_close_waits_for_a_cancelled_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on, write = threading.Event(), threading.Event(), os.write

    def slow(fd: int, data: memoryview) -> int:
        started.set()
        assert go_on.wait(30)
        return write(fd, data[:700])

    sink = build(path)
    await sink.open()
    monkeypatch.setattr(os, "write", slow)
    async with asyncio.TaskGroup() as group:
        cancelled = group.create_task(sink.write(events(1, 3)))
        await asyncio.to_thread(started.wait)
        cancelled.cancel()
        closing = group.create_task(sink.close())
        go_on.set()
    assert closing.done()
    assert path.read_bytes() == lines(events(1, 3))


async def test_a_write_that_waits_for_a_cancelled_one_when_the_sink_is_closed_is_to_be_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on, sync = threading.Event(), threading.Event(), os.fdatasync

    def slow(fd: int) -> None:
        started.set()
        assert go_on.wait(30)
        sync(fd)

    sink = build(path)
    await sink.open()
    monkeypatch.setattr(os, "fdatasync", slow)
    cancelled = asyncio.create_task(sink.write(events(1, 3)))
    await asyncio.to_thread(started.wait)
    cancelled.cancel()
    waiting, closing = asyncio.create_task(sink.write(events(4, 6))), asyncio.create_task(sink.close())
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(TransientError, match="closed before it was its turn"):
        await waiting
    await closing
    assert path.read_bytes() == lines(events(1, 3))
