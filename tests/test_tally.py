"""How old what is: marks of time over the journal's positions, bounded however long it runs."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kexport.change import StreamKey
from kexport.journal import Journal
from kexport.tables import JournalConfig
from kexport.tally import Mark, Marks, Tally
from kexport.telemetry import Histogram
from kexport.testing import make_event

PODS = StreamKey("pods/*")


def ago(*, hours: float) -> str:
    return f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m-%dT%H:%M:%S.%fZ}"


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=300), st.integers(0, 400))
def test_no_event_is_shown_younger_than_it_is_nor_much_older(pauses, passed):
    """Each event comes after a pause; the marks know when, up to the distance at which they are set."""
    marks, at, came = Marks(every_seconds=0.05, most=10_000), 100.0, []
    for position, pause in enumerate(pauses):
        at += pause
        marks.note(position, at)
        came.append(at)
    oldest = min(passed, len(came) - 1)
    marks.forget(oldest)
    for position in range(oldest, len(came)):
        since = marks.since(position)
        assert since is not None
        assert came[position] - 0.05 <= since <= came[position]


@given(st.integers(1, 2000))
def test_marks_are_bounded_and_stay_close_where_it_is_new(count):
    marks = Marks(every_seconds=1.0, most=64)
    for position in range(count):
        marks.note(position, float(position))
    assert len(marks._marks) <= 64
    for position in range(count):
        since = marks.since(position)
        assert since is not None
        assert since <= position
    for position in range(max(0, count - 32), count):
        assert marks.since(position) == position


def test_what_is_forgotten_needs_no_marks():
    marks = Marks(every_seconds=0.0)
    marks.begin(iter([Mark(0, 1.0), Mark(10, 2.0), Mark(20, 3.0)]), oldest=15)
    assert marks._marks == [Mark(10, 2.0), Mark(20, 3.0)]
    assert marks.since(15) == 2.0
    assert marks.since(20) == 3.0


def test_nothing_is_known_of_an_empty_journal():
    tally = Tally()
    assert tally.lag(0) == (0, 0.0)
    assert tally.age(0) == 0.0


def test_a_histogram_counts_each_time_under_the_first_bound_that_holds_it():
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 1.0, 3.0):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 4.65


async def test_what_was_stored_before_has_its_own_ages_piece_by_piece(tmp_path):
    config = JournalConfig(path=str(tmp_path / "state"))
    journal = await Journal.open(config, lanes=["a"])
    await journal.register([PODS], cluster_uid="uid")
    writer = asyncio.create_task(journal.run())
    events = [make_event(number, time=ago(hours=20 - number)) for number in range(1, 11)]
    for event in events:
        journal.append(PODS, [event], {})
        await journal.flush()
    writer.cancel()
    await asyncio.wait([writer])
    await journal.close()
    journal = await Journal.open(config, lanes=["a"])
    try:
        assert journal.tally.newest == 10
        for position, event in enumerate(events):
            age = time.time() - event.time.timestamp()
            assert abs(journal.tally.age(position) - age) < 5
    finally:
        await journal.close()


async def test_a_journal_that_was_trimmed_says_where_it_begins(tmp_path):
    config = JournalConfig(path=str(tmp_path / "state"), keep_seconds=0.0)
    journal = await Journal.open(config, lanes=["a"])
    await journal.register([PODS], cluster_uid="uid")
    journal.append(PODS, [make_event(1), make_event(2)], {})
    await journal._commit()
    assert (journal.retention.first, journal.tally.lag(0)[0]) == (0, 2)
    journal.advance("a", 2)
    journal.tally.marks.note(2, time.monotonic() + 1)  # the next event comes a second later
    await journal.tidying.trim(journal.committed)
    assert (journal.retention.first, journal.retention.bytes) == (2, 0)
    assert len(journal.tally.marks._marks) == 1
    await journal.close()
    journal = await Journal.open(config, lanes=["a"])
    assert (journal.retention.first, journal.tally.newest) == (2, 2)
    await journal.close()
