"""The journal: what is durable, what is remembered, and what happens to a file that is no good."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kexport import database
from kexport.change import Known
from kexport.errors import ConfigError, JournalLockedError
from kexport.journal import Journal
from kexport.places import Commit, Lane, Position
from kexport.store import Store
from tests.journals import PODS, chunks, config, events, everything, running


async def test_what_was_flushed_is_there_after_a_restart_with_the_same_bytes(tmp_path: Path) -> None:
    sent = events(1, 300)
    async with running(config(tmp_path)) as journal:
        journal.append(PODS, sent, {"a/b": Known("u", "7")}, Position(version="300"))
        await journal.flush()
    async with running(config(tmp_path)) as journal:
        assert journal.positions[PODS] == Position(version="300")
        assert await journal.known(PODS) == {"a/b": Known("u", "7")}
        assert [event.line for event in await everything(journal)] == [event.line for event in sent]


async def test_positions_count_on_over_restarts_even_when_everything_was_trimmed(tmp_path: Path) -> None:
    async with running(config(tmp_path, keep_seconds=0)) as journal:
        journal.append(PODS, events(1, 10), {})
        await journal.flush()
        journal.advance("a", 10)
        await journal.delivered("a")
    for _ in range(2):
        async with running(config(tmp_path, keep_seconds=0)) as journal:
            assert journal.committed == 10
            assert await journal.read(10) == ()


def test_a_transaction_that_memory_does_not_suffice_to_end_is_rolled_back() -> None:
    class Poor(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                raise MemoryError
            return super().execute(sql, *arguments)

    with closing(sqlite3.connect(":memory:", isolation_level=None, factory=Poor)) as db:
        with pytest.raises(MemoryError), database.transaction(db):
            db.execute("CREATE TABLE t (a)")
        assert not db.in_transaction


async def test_a_lane_sees_only_what_is_durable(tmp_path: Path) -> None:
    journal = await Journal.open(config(tmp_path), lanes=("a",))
    await journal.register([PODS], cluster_uid="u")
    journal.append(PODS, events(1, 3), {})
    assert await journal.read(0) == ()
    writer = asyncio.create_task(journal.run())
    await journal.news(0)
    assert len(await journal.read(0)) == 3
    writer.cancel()
    await asyncio.wait([writer])
    await journal.close()


async def test_events_index_and_position_of_one_append_are_all_there_or_none(tmp_path: Path) -> None:
    async with running(config(tmp_path)) as journal:
        journal.append(PODS, events(1, 5), {"x": Known("u", "5")}, Position(version="5"))
        await journal.flush()
    # A lane whose place cannot be written makes the transaction fail at its very end.
    with closing(database.connect(tmp_path / "journal.db")) as db:
        broken: Any = Lane(None)  # type: ignore[arg-type]
        late = Commit(
            5, [b"{}"], {PODS: Position(version="7")}, {PODS: {"y": Known("u", "7")}}, {"a": broken}
        )
        with pytest.raises(sqlite3.IntegrityError):
            Store(db).commit(late)
    async with running(config(tmp_path)) as journal:
        assert journal.committed == 5
        assert journal.positions[PODS].version == "5"
        assert set(await journal.known(PODS)) == {"x"}
        assert journal.lane("a").cursor == 0


async def test_reading_from_disk_and_from_memory_gives_the_same(tmp_path: Path) -> None:
    async with running(config(tmp_path, memory_bytes=100_000)) as journal:
        for first in range(1, 500, 50):
            journal.append(PODS, events(first, 50), {})
            await journal.flush()
        for after in (0, 1, 49, 50, 137, 498, 499):
            got = await everything(journal, after)
            assert [event.position for event in got] == list(range(after + 1, 501))
            assert [event.attributes.resourceversion for event in got] == [str(e.position) for e in got]


async def test_a_new_lane_begins_behind_the_newest_event(tmp_path: Path) -> None:
    async with running(config(tmp_path)) as journal:
        journal.append(PODS, events(1, 5), {})
        await journal.flush()
    async with running(config(tmp_path), lanes=("a", "b")) as journal:
        assert (journal.lane("a").cursor, journal.lane("b").cursor) == (0, 5)


async def test_a_cursor_is_kept_and_never_goes_back(tmp_path: Path) -> None:
    async with running(config(tmp_path)) as journal:
        journal.append(PODS, events(1, 5), {})
        await journal.flush()
        journal.advance("a", 4)
        journal.advance("a", 2)
    async with running(config(tmp_path)) as journal:
        assert journal.lane("a").cursor == 4


async def test_what_every_lane_has_is_deleted_after_keep_seconds(tmp_path: Path) -> None:
    async with running(config(tmp_path, keep_seconds=0), lanes=("a", "b")) as journal:
        journal.append(PODS, events(1, 10), {})
        await journal.flush()
        journal.advance("a", 10)
        await journal.delivered("a")
        assert chunks(tmp_path) == [10]
        journal.advance("b", 10)
        while chunks(tmp_path):
            await asyncio.sleep(0.05)


async def test_a_full_journal_makes_readers_wait_until_a_lane_moved_on(tmp_path: Path) -> None:
    async with running(config(tmp_path, max_bytes=1 << 20)) as journal:
        while not journal.full:
            journal.append(PODS, events(1, 20, 20_000), {})
            await journal.flush()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(journal.room(), 0.05)
        journal.advance("a", journal.committed)
        await asyncio.wait_for(journal.room(), 60)
        assert len(chunks(tmp_path)) <= 1


async def test_a_small_journal_is_hardly_overrun_by_who_appends_whenever_there_is_room(
    tmp_path: Path,
) -> None:
    async with running(config(tmp_path, max_bytes=1 << 20)) as journal:
        while not journal.full:
            if journal.crowded:
                await journal.flush()
            else:
                journal.append(PODS, events(1, 5, 20_000), {})
        assert journal.retention.bytes < 1.4 * (1 << 20)


async def test_drop_oldest_gives_up_events_and_counts_them_for_the_overrun_lane_alone(tmp_path: Path) -> None:
    settings = config(tmp_path, max_bytes=1 << 20, when_full="drop_oldest", memory_bytes=0)
    async with running(settings, lanes=("slow", "quick")) as journal:
        for _ in range(20):
            journal.append(PODS, events(1, 10, 20_000), {})
            await journal.flush()
            journal.advance("quick", journal.committed)
        await journal.delivered("quick")
        slow, quick = journal.lane("slow"), journal.lane("quick")
        left = await everything(journal, slow.cursor)
        assert slow.dropped == slow.cursor > 0
        assert slow.dropped + len(left) == 200
        assert (quick.cursor, quick.dropped) == (200, 0)
        journal.told("slow", slow.dropped)
        assert journal.lane("slow").dropped == 0


async def test_a_second_process_is_refused_and_told_who_holds_the_journal(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from kexport import statedir;"
        "held = statedir.hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(JournalLockedError, match=rf"in use by process {child.pid}\b"):
            await Journal.open(config(tmp_path), lanes=())
        child.communicate()
    async with running(config(tmp_path)):
        pass  # the lock went with the process


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[: len(data) // 3], "damaged"),
        (lambda data: b"", "empty file"),
        (lambda data: b"something else\n" * 100, "not an SQLite file"),
        (lambda data: data[:8192] + os.urandom(len(data) - 8192), "damaged"),
    ],
    ids=["truncated", "empty", "foreign", "overwritten"],
)
async def test_a_bad_file_is_set_aside_and_its_streams_start_with_a_gap(
    tmp_path: Path, damage: Any, problem: str
) -> None:
    async with running(config(tmp_path)) as journal:
        index = {f"ns/{n}": Known("u", str(n)) for n in range(1, 2000)}
        journal.append(PODS, events(1, 200), index, Position(version="9"))
        await journal.flush()
    file = tmp_path / "journal.db"
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    async with running(config(tmp_path)) as journal:
        resync = journal.positions[PODS].resync
        assert resync
        assert resync.reason.startswith(f"journal-lost: {problem}")
    (aside,) = tmp_path.glob("broken-*-journal.db")
    assert aside.read_bytes() == damaged
    # Until the stream has been compared, it stays a gap, over any number of restarts.
    async with running(config(tmp_path)) as journal:
        assert journal.positions[PODS].resync == resync


async def test_another_programs_database_is_set_aside_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE theirs (x)")
    before = file.read_bytes()
    async with running(config(tmp_path)):
        pass
    (aside,) = tmp_path.glob("broken-*-journal.db")
    assert aside.read_bytes() == before


async def test_a_newer_schema_is_refused_and_the_file_left_alone(tmp_path: Path) -> None:
    async with running(config(tmp_path)):
        pass
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute(f"PRAGMA user_version = {database.SCHEMA_VERSION + 1}")
    with pytest.raises(ConfigError, match="written by a newer kexport"):
        await Journal.open(config(tmp_path), lanes=())
    assert not list(tmp_path.glob("broken-*"))


async def test_another_clusters_journal_is_refused(tmp_path: Path) -> None:
    async with running(config(tmp_path)):
        pass
    journal = await Journal.open(config(tmp_path), lanes=())
    with pytest.raises(ConfigError, match="belongs to another cluster"):
        await journal.register([PODS], cluster_uid="uid-2")
    await journal.close()


async def test_a_directory_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"journal\.path: cannot write to the state directory"):
        await Journal.open(config(tmp_path / "file" / "state"), lanes=())


async def test_in_memory_nothing_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with running(config(":memory:", memory_bytes=0)) as journal:
        journal.append(PODS, events(1, 10), {"a": Known("u", "1")}, Position(version="1"))
        await journal.flush()
        assert len(await everything(journal)) == 10
        assert await journal.known(PODS) == {"a": Known("u", "1")}
    assert not list(tmp_path.iterdir())


async def test_a_damaged_chunk_is_an_error_not_fewer_events(tmp_path: Path) -> None:
    async with running(config(tmp_path)) as journal:
        journal.append(PODS, events(1, 100), {})
        await journal.flush()
    with closing(database.connect(tmp_path / "journal.db")) as db:
        (data,) = db.execute("SELECT data FROM chunks").fetchone()
        middle = len(data) // 2
        db.execute("UPDATE chunks SET data = ?", (data[:middle] + b"\0\0\0\0" + data[middle + 4 :],))
    async with running(config(tmp_path)) as journal:
        with pytest.raises(Exception, match="chunk that ends at event 100"):
            await journal.read(0)


def test_a_stored_place_with_fields_of_a_later_version_is_readable() -> None:
    assert msgspec.json.decode(b'{"version":"5","later":1}', type=Position) == Position(version="5")
