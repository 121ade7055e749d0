"""Replay: the same bytes once more, to one sink, in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from kexport import offline
from kexport.errors import ConfigError, JournalError, JournalLockedError, TransientError
from kexport.journal import Journal
from kexport.replay import Replay
from kexport.statedir import OPEN_FILE
from kexport.tables import JournalConfig
from kexport.testing import make_event
from tests.journals import PODS
from tests.lanes import running, settings
from tests.objects import eventually

HOUR = 3600.0


@asynccontextmanager
async def journal(directory: Path, *lanes: str, **config: object) -> AsyncIterator[Journal]:
    opened = await Journal.open(
        JournalConfig(path=str(directory), **config),  # type: ignore[arg-type]
        lanes=lanes or ["a"],
    )
    await opened.register([PODS], cluster_uid="u")
    writer = asyncio.create_task(opened.run())
    try:
        yield opened
    finally:
        writer.cancel()
        await asyncio.wait([writer])
        await opened.close()


async def feed(opened: Journal, *counts: int) -> None:
    """A chunk each."""
    for count in counts:
        first = opened.committed + 1
        opened.append(PODS, [make_event(first + n) for n in range(count)], {})
        await opened.flush()


def age(directory: Path, *hours: float) -> None:
    """As if the chunks had been stored so many hours ago, oldest first."""
    with closing(sqlite3.connect(directory / "journal.db")) as db:
        chunks = [last for (last,) in db.execute("SELECT last FROM chunks ORDER BY last")]
        for last, hour in zip(chunks, hours, strict=True):
            db.execute("UPDATE chunks SET at = ? WHERE last = ?", (time.time() - hour * HOUR, last))
        db.commit()


@pytest.fixture
async def stored(tmp_path: Path) -> Path:
    """Events 1-3, 4-5 and 6-9, stored three, two and one hours ago, all of which the sink `a` has."""
    async with journal(tmp_path) as opened:
        await feed(opened, 3, 2, 4)
        opened.advance("a", 9)
        await opened.settle()
    age(tmp_path, 3, 2, 1)
    return tmp_path


def since(hours: float, **more: bool) -> Replay:
    return Replay(since=time.time() - hours * HOUR, **more)


@pytest.mark.parametrize(
    ("wanted", "first", "events"),
    [
        (Replay(sequence=4), 4, 6), (Replay(sequence=1), 1, 9), (Replay(sequence=9), 9, 1),
        (Replay(oldest=True), 1, 9), (since(2.5), 4, 6), (since(1.5), 6, 4), (since(24), 1, 9),
        (since(0.5), 10, 0),
    ],
)  # fmt: skip
async def test_where_a_replay_begins(stored: Path, wanted: Replay, first: int, events: int) -> None:
    assert offline.replay(stored, "a", wanted) == (first, events)
    async with journal(stored) as opened:
        assert opened.lane("a").cursor == first - 1


@pytest.mark.parametrize("wanted", [Replay(sequence=3), since(2.5)])
async def test_what_the_journal_does_not_reach_is_refused_with_its_oldest_event(
    stored: Path, wanted: Replay
) -> None:
    with closing(sqlite3.connect(stored / "journal.db")) as db:
        db.execute("DELETE FROM chunks WHERE last = 3")
        db.commit()
    with pytest.raises(ConfigError, match=r"its oldest event is 4, stored at 20..-..-..T.*--oldest repeats"):
        offline.replay(stored, "a", wanted)
    assert offline.replay(stored, "a", wanted._replace(oldest=True)) == (4, 6)


async def test_an_event_that_is_not_there_yet_and_an_empty_journal_are_refused(stored: Path) -> None:
    with pytest.raises(ConfigError, match="there is no event 10 yet; the newest is 9"):
        offline.replay(stored, "a", Replay(sequence=10))
    with closing(sqlite3.connect(stored / "journal.db")) as db:
        db.execute("INSERT INTO meta VALUES ('last', '9')")
        db.execute("DELETE FROM chunks")
        db.commit()
    with pytest.raises(ConfigError, match="keeps no event any more"):
        offline.replay(stored, "a", since(1))
    assert offline.replay(stored, "a", Replay(oldest=True)) == (10, 0)


async def test_a_sink_that_is_behind_is_never_set_forward(stored: Path) -> None:
    offline.replay(stored, "a", Replay(sequence=2))
    assert offline.replay(stored, "a", Replay(sequence=5)) == (5, 0)
    async with journal(stored) as opened:
        assert opened.lane("a").cursor == 1


async def test_a_sink_that_the_journal_does_not_know_is_refused(stored: Path) -> None:
    with pytest.raises(ConfigError, match="no sink named 'b'"):
        offline.replay(stored, "b", Replay(oldest=True))


async def test_without_a_journal_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no journal in"):
        offline.replay(tmp_path / "none", "a", Replay(oldest=True))
    assert not (tmp_path / "none").exists()


async def test_a_journal_in_use_is_left_alone(stored: Path) -> None:
    async with journal(stored):
        with pytest.raises(JournalLockedError):
            offline.replay(stored, "a", Replay(oldest=True))


async def test_a_journal_that_the_next_start_would_set_aside_is_left_to_it(stored: Path) -> None:
    (stored / OPEN_FILE).touch()
    with pytest.raises(JournalError, match="write-ahead log is missing; start kexport"):
        offline.replay(stored, "a", Replay(oldest=True))
    assert (stored / OPEN_FILE).exists()
    (stored / OPEN_FILE).unlink()
    (stored / "journal.db").write_bytes(b"rot" * 1000)
    with pytest.raises(JournalError, match="not an SQLite file; start kexport"):
        offline.replay(stored, "a", Replay(oldest=True))
    assert (stored / "journal.db").read_bytes() == b"rot" * 1000


# -- beside a lane that delivers --------------------------------------------------------------------------


async def test_the_lane_repeats_the_same_bytes_in_order_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={}, b={})) as rig:
        await rig.feed(40)
        await rig.done("a")
        await rig.done("b")
        assert await rig.journal.set_back("a", Replay(sequence=11).begin) == (11, 30)
        await rig.feed(5)
        await rig.done("a")
        stored = rig.sinks["a"].stored
        assert [event.position for event in stored] == [*range(1, 41), *range(11, 46)]
        assert [event.line for event in stored[10:40]] == [event.line for event in stored[40:70]]
        await rig.done("b")
        assert rig.sinks["b"].positions == list(range(1, 46))


async def test_a_write_under_way_does_not_undo_it(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        gate, sink = asyncio.Event(), rig.sinks["a"]
        await rig.feed(10)
        await rig.done("a")
        sink.script = lambda _events: gate.wait()
        await rig.feed(10)
        await eventually(lambda: len(sink.writes) > len(sink.stored) // 10)
        await rig.journal.set_back("a", Replay(sequence=1).begin)
        gate.set()
        await rig.done("a")
        await eventually(lambda: rig.journal.lane("a").cursor == 20)
        assert sink.positions[-20:] == list(range(1, 21))


async def test_a_lane_that_retries_begins_at_its_new_place(tmp_path: Path) -> None:
    async with running(tmp_path, settings(a={})) as rig:
        sink = rig.sinks["a"]
        await rig.feed(10)
        await rig.done("a")

        def away(_events: Sequence[object]) -> None:
            raise TransientError("away")

        sink.script = away
        await rig.feed(10)
        await eventually(lambda: rig.stats["a"].retries > 2)
        await rig.journal.set_back("a", Replay(sequence=1).begin)
        sink.script = lambda _events: None
        await rig.done("a")
        assert sink.positions == [*range(1, 11), *range(1, 21)]


async def test_a_lane_that_waits_for_its_batch_to_fill_does_not_miss_it(tmp_path: Path) -> None:
    batch = {"max_events": 100, "max_wait_seconds": 0.2}
    async with running(tmp_path, settings(a={"batch": batch})) as rig:
        await rig.feed(10)
        await rig.done("a")
        await rig.feed(1)
        await rig.journal.set_back("a", Replay(sequence=1).begin)
        await rig.done("a")
        assert rig.sinks["a"].positions[-11:] == list(range(1, 12))


async def test_what_is_to_be_repeated_is_not_deleted_under_the_lane(tmp_path: Path) -> None:
    """Asked for again and again while everything that was delivered may go at once."""
    async with journal(tmp_path, "a", "b", keep_seconds=0) as opened:
        for _ in range(100):
            await feed(opened, 3)
            for name in ("a", "b"):
                opened.advance(name, opened.committed)
            trim = asyncio.create_task(opened.tidying.trim(opened.committed))
            opened.retention._trimmed_at = 0.0
            repeat = await opened.set_back("a", Replay(oldest=True).begin)
            await trim
            after = opened.lane("a").cursor
            assert opened.retention.first <= after
            assert after + repeat.events == opened.committed
            if repeat.events:
                events = await opened.read(after)
                assert events[0].position == after + 1
            opened.advance("a", opened.committed)
