"""A disk that refuses, is slow, or writes half of what it is given, under the real engine.

A library that is preloaded into the exporter's process (tests/faulty_disk.c; needs cc) makes the journal's
writes and syncs fail while objects change.
"""

from __future__ import annotations

import asyncio
import errno
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.test_crash_points import rig

SOURCE = Path(__file__).parents[1] / "faulty_disk.c"
PATIENCE_SECONDS = 30.0
REFUSED = "cannot write the journal"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("faulty") / "faulty_disk.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", made, SOURCE, "-ldl"], check=True
    )
    return made


@pytest.fixture
def control(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says what the disk does."""
    file = tmp_path / "fault"
    monkeypatch.setenv("KEXPORT_FAULT", str(file))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    return file


REFUSALS = pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])


@REFUSALS
@pytest.mark.parametrize("operation", ["write", "sync"])
async def test_scenario_38_what_a_refusing_disk_holds_up_is_delivered_when_it_takes_it_again(
    tmp_path: Path, control: Path, operation: str, number: int
) -> None:
    log = tmp_path / "children.log"

    async def refuse() -> None:
        control.write_text(f"{operation} {number}")

    async with rig(tmp_path, random.Random(number)) as exporter:
        exporter.truth.create()
        await exporter.run()
        running = asyncio.create_task(exporter.run(meanwhile=refuse))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while REFUSED not in log.read_text():
                assert not running.done()
                await asyncio.sleep(0.02)
        exporter.look("while the disk refuses", trimmed=number == errno.ENOSPC)
        control.write_text("")
        await running
        exporter.look("afterwards", trimmed=number == errno.ENOSPC)
        exporter.judge()


@REFUSALS
async def test_scenario_38_a_disk_that_refuses_at_start_is_said_and_no_journal_is_set_aside(
    tmp_path: Path, control: Path, number: int
) -> None:
    async with rig(tmp_path, random.Random(number)) as exporter:
        exporter.truth.create()
        await exporter.run()
        control.write_text(f"write {number}")
        with pytest.raises(AssertionError, match="ended with 1"):
            await exporter.run()
        assert "make room, or mend the disk, and start again" in (tmp_path / "children.log").read_text()
        assert not list((tmp_path / "state").glob("broken-*"))
        control.write_text("")
        await exporter.run()
        exporter.judge()


@pytest.mark.parametrize("fault", ["write short", "sync slow"])
async def test_a_disk_that_is_slow_or_writes_by_halves_costs_time_only(
    tmp_path: Path, control: Path, fault: str
) -> None:
    async with rig(tmp_path, random.Random(1)) as exporter:
        exporter.truth.create()
        await exporter.run()
        control.write_text(fault)
        started = time.monotonic()
        await exporter.run()
        assert time.monotonic() - started > ("slow" in fault)
        exporter.look(fault)
        exporter.judge()
        assert REFUSED not in (tmp_path / "children.log").read_text()
