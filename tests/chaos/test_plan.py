"""A plan is its seed's alone, leaves no kind out, and never troubles one target twice at a time."""

from __future__ import annotations

from itertools import pairwise

from tests.chaos.plan import kinds, plan


def test_the_same_seed_gives_the_same_plan_and_another_one_another():
    first = plan(7, minutes=3, per_minute=10)
    assert first == plan(7, minutes=3, per_minute=10)
    assert first != plan(8, minutes=3, per_minute=10)


def test_twenty_minutes_have_a_hundred_faults_of_every_kind_some_of_which_overlap():
    for seed in range(20):
        faults = plan(seed, minutes=20, per_minute=7)
        assert len(faults) >= 100
        assert {fault.kind for fault in faults} == set(kinds(20))
        assert any(one.at + one.seconds > other.at for one, other in pairwise(faults))


def test_two_faults_of_one_target_never_overlap():
    for seed in range(20):
        over: dict[str, float] = {}
        for fault in plan(seed, minutes=20, per_minute=20):
            assert fault.at >= over.get(fault.kind.target, 0)
            over[fault.kind.target] = fault.at + fault.seconds


def test_a_target_that_cannot_be_troubled_is_left_alone():
    faults = plan(1, minutes=5, per_minute=20, without=frozenset({"journal volume"}))
    assert "journal volume" not in {fault.kind.target for fault in faults}
