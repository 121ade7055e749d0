"""What the disk may do to the journal: refuse, lose files, rot.

Nothing is delivered that was not durable, nothing is lost without a word, no refusal is taken for damage.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from kexport.change import Known
from kexport.errors import JournalError
from kexport.journal import Journal
from kexport.places import Position
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, toml
from tests.journals import PODS, chunks, config, events, everything, running
from tests.objects import configmap, eventually

SEEDS = 40
LINES = 60


async def allow_pages(journal: Journal, more: int) -> None:
    """Let the file grow by so many pages: then SQLite says that the disk is full."""

    def limit() -> None:
        database = journal._disk.store._db
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages + more}")

    await journal._disk.do(limit)


@asynccontextmanager
async def open_journal(
    directory: Path, cluster: str = "uid-1"
) -> AsyncIterator[tuple[Journal, asyncio.Task[None]]]:
    """A journal and its writer, whose end is the test's to look at."""
    journal = await Journal.open(config(directory), lanes=("a",))
    writer = asyncio.create_task(journal.run())
    try:
        await journal.register([PODS], cluster_uid=cluster)
        yield journal, writer
    finally:
        writer.cancel()
        await asyncio.wait([writer])
        await journal.close()


async def test_scenario_38_a_full_disk_pauses_reading_and_everything_arrives_once_there_is_room(
    tmp_path: Path,
) -> None:
    async with FakeCluster() as fake:
        text = toml(tmp_path, {"url": fake.url}, [{"resource": "configmaps"}])
        async with Exporter(text, Memory()) as exporter:
            await exporter.synced()
            journal = exporter.engine._journal
            before = len(exporter.events)
            await allow_pages(journal, 0)
            noise = random.Random(1)
            number = 0
            while not journal.failing:
                number += 1
                configmap(fake, f"big-{number}", text=noise.randbytes(20_000).hex())
                await asyncio.sleep(0.02)
            assert "full" in journal.failing
            assert journal.crowded
            configmap(fake, "one-more")
            await eventually(lambda: fake.watch_count == 0)
            durable = journal.committed
            assert len(exporter.events) <= durable
            assert before <= durable
            await allow_pages(journal, 100_000)
            await exporter.until(lambda found: any(each.subject.endswith("/one-more") for each in found))
            assert not journal.failing
            names = [each.attributes.objname for each in exporter.events if each.change == "added"]
            assert [name for name in names if name.startswith("big")] == [
                f"big-{each}" for each in range(1, number + 1)
            ]


async def test_scenario_38_nothing_is_shown_before_the_disk_took_it_and_stopping_does_not_wait_for_it(
    tmp_path: Path,
) -> None:
    async with open_journal(tmp_path) as (journal, _):
        await allow_pages(journal, 0)
        journal.append(PODS, events(1, 20, 20_000), {"a": Known("u", "9")}, Position(version="9"))
        await eventually(lambda: bool(journal.failing))
        assert journal.committed == 0
        assert await journal.read(0) == ()
        started = time.monotonic()
    assert time.monotonic() - started < 60
    async with running(config(tmp_path)) as journal:
        assert journal.positions[PODS] == Position()
        assert await journal.known(PODS) == {}
        assert await everything(journal) == []


async def test_scenario_38_what_waits_for_the_disk_at_a_stop_goes_in_before_what_came_behind_it(
    tmp_path: Path,
) -> None:
    async with open_journal(tmp_path) as (journal, writer):
        await allow_pages(journal, 0)
        journal.append(PODS, events(1, 20, 20_000), {"a": Known("u", "9")}, Position(version="9"))
        journal.advance("a", 3)
        await eventually(lambda: bool(journal.failing))
        journal.append(PODS, events(21, 1), {"b": Known("v", "10")}, Position(version="10"))
        writer.cancel()  # which is waiting for its next attempt
        await asyncio.wait([writer])
        await allow_pages(journal, 100_000)
    async with running(config(tmp_path)) as journal:
        assert [each.position for each in await everything(journal)] == list(range(1, 22))
        assert journal.positions[PODS].version == "10"
        assert await journal.known(PODS) == {"a": Known("u", "9"), "b": Known("v", "10")}
        assert journal.lane("a").cursor == 3


@pytest.mark.parametrize("error", [MemoryError(), zstandard.ZstdError("no"), sqlite3.ProgrammingError("no")])
async def test_what_a_failed_transaction_held_goes_in_before_what_came_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    async with open_journal(tmp_path) as (journal, writer):

        def fail(_commit: object) -> int:
            begun.set()
            assert go_on.wait(30)
            monkeypatch.undo()
            raise error

        monkeypatch.setattr(journal._disk, "commit", fail)
        journal.append(PODS, events(1, 5), {"a": Known("u", "5")}, Position(version="5"))
        await asyncio.to_thread(begun.wait, 30)
        journal.append(PODS, events(6, 5), {"b": Known("v", "10")}, Position(version="10"))
        go_on.set()
        await asyncio.wait([writer])
        assert writer.exception() is error
    async with running(config(tmp_path)) as journal:
        assert [each.position for each in await everything(journal)] == list(range(1, 11))
        assert journal.positions[PODS].version == "10"
        assert await journal.known(PODS) == {"a": Known("u", "5"), "b": Known("v", "10")}


async def test_scenario_38_a_full_disk_is_met_while_a_stream_is_registered_and_the_journal_waits(
    tmp_path: Path,
) -> None:
    async with open_journal(tmp_path) as (journal, _):
        await allow_pages(journal, 0)
        streams: Any = [f"{'x' * 200}{number}/*" for number in range(500)]
        registering = asyncio.create_task(journal.register(streams, cluster_uid="uid-1"))
        await eventually(lambda: bool(journal.failing))
        assert not registering.done()
        assert journal.failing
        await allow_pages(journal, 100_000)
        await registering
        assert set(streams) <= set(journal.positions)
        await asyncio.wait_for(journal.room(), 60)


async def test_scenario_38_a_full_disk_takes_new_events_in_the_place_of_those_kept_for_replay(
    tmp_path: Path,
) -> None:
    async with open_journal(tmp_path) as (journal, _):
        for first in range(1, 200, 20):
            journal.append(PODS, events(first, 20, 20_000), {})
            await journal.flush()
        journal.advance("a", 200)
        await asyncio.sleep(0)
        await journal.delivered("a")
        await allow_pages(journal, 0)
        journal.append(PODS, events(201, 20, 20_000), {})
        async with asyncio.timeout(20):
            await journal.flush()
        assert not journal.failing
        assert len(await everything(journal, 200)) == 20


async def test_scenario_38_a_disk_that_refuses_at_start_is_no_reason_to_set_the_journal_aside(
    tmp_path: Path,
) -> None:
    async with running(config(tmp_path)) as journal:
        journal.append(PODS, events(1, 5), {}, Position(version="5"))
        await journal.flush()
    # SQLite cannot open its log: to it the same as a disk on which no file can be made.
    (tmp_path / "journal.db-wal").mkdir()
    with pytest.raises(JournalError, match="cannot be opened: unable to open database file; make room"):
        await Journal.open(config(tmp_path), lanes=("a",))
    assert not list(tmp_path.glob("broken-*"))
    (tmp_path / "journal.db-wal").rmdir()
    async with running(config(tmp_path)) as journal:
        assert journal.positions[PODS].version == "5"
        assert len(await everything(journal)) == 5


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
async def test_a_file_deleted_under_a_running_journal_ends_it_instead_of_writing_into_nothing(
    tmp_path: Path, name: str
) -> None:
    async with open_journal(tmp_path) as (journal, writer):
        (tmp_path / name).unlink()
        journal.append(PODS, events(1, 5), {}, Position(version="5"))
        with pytest.raises(JournalError, match="deleted or replaced while it was in use"):
            await asyncio.wait_for(writer, 60)
        assert journal.committed == 0


async def test_a_directory_replaced_under_a_running_journal_is_noticed_while_nothing_happens(
    tmp_path: Path,
) -> None:
    async with open_journal(tmp_path / "state") as (_, writer):
        (tmp_path / "state").rename(tmp_path / "old")
        (tmp_path / "state").mkdir()
        with pytest.raises(JournalError, match="deleted or replaced while it was in use"):
            await asyncio.wait_for(writer, 60)


async def test_a_write_ahead_log_lost_after_a_crash_is_noticed_and_its_streams_begin_with_a_gap(
    tmp_path: Path,
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    async with running(config(before)) as journal:
        journal.append(PODS, events(1, 5), {"a": Known("u", "5")}, Position(version="5"))
        await journal.flush()
        shutil.copytree(before, after)  # as a crash leaves it
        (after / "journal.db-wal").unlink()
    async with running(config(after)) as journal:
        resync = journal.positions[PODS].resync
        assert resync
        assert resync.reason == "journal-lost: write-ahead log missing"
        assert await everything(journal) == []


async def test_after_a_clean_stop_and_after_a_crash_no_log_is_missed(tmp_path: Path) -> None:
    first, crashed = tmp_path / "first", tmp_path / "crashed"
    async with running(config(first)):
        pass
    async with running(config(first)) as journal:
        assert journal.positions[PODS] == Position()
        journal.append(PODS, events(1, 5), {}, Position(version="5"))
        await journal.flush()
        shutil.copytree(first, crashed)
    async with running(config(crashed)) as journal:
        assert journal.positions[PODS] == Position(version="5")
        assert len(await everything(journal)) == 5


@pytest.mark.parametrize("when_full", ["pause", "drop_oldest"])
async def test_a_clock_set_back_neither_blocks_nor_hangs_a_full_journal(
    tmp_path: Path, when_full: str
) -> None:
    settings = config(tmp_path, max_bytes=1 << 20, when_full=when_full)
    async with running(settings) as journal:
        while journal.retention.bytes < 900_000:
            journal.append(PODS, events(1, 5, 20_000), {})
            await journal.flush()
        with closing(sqlite3.connect(tmp_path / "journal.db", timeout=30)) as db:
            db.execute("UPDATE chunks SET at = at + 7200")  # the clock was two hours ahead
            db.commit()
        if when_full == "pause":
            journal.advance("a", journal.committed)
        async with asyncio.timeout(20):
            for _ in range(5):
                journal.append(PODS, events(1, 10, 20_000), {})
                await journal.flush()
                if when_full == "pause":
                    journal.advance("a", journal.committed)
                    await journal.room()
        lane = journal.lane("a")
        assert lane.cursor if when_full == "pause" else lane.dropped == lane.cursor > 0
        assert len(chunks(tmp_path)) < 20


async def test_a_process_that_outlives_us_does_not_hold_the_journal(tmp_path: Path) -> None:
    async with running(config(tmp_path)):
        # As a credentials' exec plugin that leaves something behind; close_fds=False is the worst case.
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=False
        )
    try:
        async with running(config(tmp_path)):
            assert child.poll() is None
    finally:
        child.communicate()
