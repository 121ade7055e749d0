"""How many may pass goes by the time of what passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kexport.allowance import Allowance


def passed(allowance: Allowance, *moments: float) -> int:
    return sum(allowance.take(at) for at in moments)


def test_a_burst_passes_and_then_the_rate():
    allowance = Allowance(10, 5)
    assert passed(allowance, *[100.0] * 20) == 5
    assert passed(allowance, *[100.5] * 20) == 5
    assert passed(allowance, *(101 + number / 10 for number in range(50))) == 50


def test_without_a_burst_it_is_one_seconds_worth():
    assert passed(Allowance(3), *[100.0] * 20) == 3
    assert passed(Allowance(0.5), *[100.0] * 20) == 1


def test_what_comes_late_is_judged_by_when_it_was_observed():
    """A backlog of an hour at the allowed rate passes whole, however fast it is delivered."""
    assert passed(Allowance(2, 1), *(number / 2 for number in range(7200))) == 7200


def test_streams_that_come_out_of_order_fill_nothing_twice():
    allowance = Allowance(1, 1)
    assert passed(allowance, 100.0, 99.0, 100.0, 99.0, 100.0) == 1


def test_a_clock_that_was_set_back_stops_nothing_for_long():
    allowance = Allowance(1, 1)
    assert passed(allowance, 10_000.0, 100.0) == 1
    assert passed(allowance, 101.0, 102.0) == 2


@given(st.floats(0.1, 50), st.integers(1, 20), st.lists(st.floats(0, 60), max_size=200))
def test_never_more_than_the_burst_and_the_rate_together(rate, burst, moments):
    moments.sort()
    most = burst + rate * (moments[-1] - moments[0]) + 1e-6 if moments else 0
    assert passed(Allowance(rate, burst), *moments) <= most
