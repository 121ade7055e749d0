"""The soak's plan, and what it calls flat."""

from __future__ import annotations

import pytest

from tests.chaos.soak import Sample, furthest, outages, windows


def samples(*windows_mb: float) -> list[Sample]:
    """One every five seconds, of so many MB in each five minutes."""
    every = [mb for mb in windows_mb for _ in range(60)]
    return [Sample(number * 5.0, int(mb * 1e6), 1000 + number) for number, mb in enumerate(every)]


def test_the_sink_is_away_half_of_the_time():
    faults = outages(60, away_seconds=60)
    assert [fault.at for fault in faults][:3] == [60, 180, 300]
    assert sum(fault.seconds for fault in faults) == 30 * 60
    assert faults[-1].at + faults[-1].seconds <= 60 * 60


def test_a_window_is_five_minutes_of_samples():
    first, second = windows(samples(50, 60))
    assert (first.begin, first.end, second.begin, second.end) == (0, 5, 5, 10)
    assert (first.mean, first.least, first.most) == (50e6, 50_000_000, 50_000_000)
    assert (first.journal, second.journal) == (1059, 1119)


def test_a_window_that_is_not_over_does_not_count():
    assert len(windows(samples(50, 60)[:-10])) == 1


@pytest.mark.parametrize(
    ("megabytes", "share"),
    [((10, 60, 60, 60), 0.0), ((60, 60, 60, 66), 0.1), ((60, 50, 60, 70), 1 / 6), ((60,), 0.0)],
)
def test_what_is_furthest_from_the_median_behind_the_first_minutes(megabytes, share):
    assert furthest(windows(samples(*megabytes))) == pytest.approx(share)
