"""Waits double, are jittered, heed the other side, and begin anew after health; and a pace is kept."""

import asyncio
import time

import pytest

from kexport.backoff import Backoff, Pace


def test_the_first_wait_is_about_the_minimum():
    for _ in range(50):
        assert 0.4 <= Backoff(0.8, 30).next() <= 0.8


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 1.6), (2, 3.2), (5, 25.6)])
def test_each_failure_doubles_the_wait(failures, ceiling):
    backoff = Backoff(0.8, 30)
    for _ in range(failures):
        backoff.next()
    assert ceiling / 2 <= backoff.next() <= ceiling


def test_no_wait_is_longer_than_the_maximum_however_often_it_failed():
    backoff = Backoff(0.8, 30)
    waits = [backoff.next() for _ in range(2000)]
    assert max(waits) <= 30
    assert min(waits[10:]) >= 15


def test_waits_are_jittered():
    assert len({Backoff(0.8, 30).next() for _ in range(20)}) > 1


def test_what_the_other_side_asks_for_is_a_lower_bound():
    backoff = Backoff(0.8, 30)
    assert backoff.next(7) == 7
    assert backoff.next(600) == 600


def test_a_short_request_of_the_other_side_shortens_nothing():
    backoff = Backoff(100, 100)
    assert backoff.next(0.1) >= 50
    assert backoff.next(None) >= 50


def test_reset_begins_anew():
    backoff = Backoff(1, 1000)
    for _ in range(8):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 1


def test_a_healthy_spell_begins_anew():
    # The spell is counted from the end of the last wait; it began a day ago, so to say.
    backoff = Backoff(1, 1000, healthy_seconds=-86_400)
    for _ in range(8):
        backoff.next()
    assert backoff.next() <= 1


def test_a_wait_is_no_healthy_spell():
    backoff = Backoff(1, 1000, healthy_seconds=0)
    backoff.next()
    assert backoff.next() >= 1
    assert backoff.next() >= 2


async def test_a_seconds_worth_may_go_at_once(monkeypatch):
    async def sleep(seconds):
        raise AssertionError(f"{seconds} s of sleep")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = Pace(100)
    for _ in range(100):
        await pace.wait()


async def test_what_goes_beyond_keeps_the_pace():
    pace = Pace(100)
    started = time.monotonic()
    await asyncio.gather(*(pace.wait() for _ in range(120)))
    assert time.monotonic() - started >= 0.15
