"""The judge must be able to condemn: each kind of flaw, made on purpose, is found, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chaos.truth import Step
from tests.chaos.verdict import KINDS, State, Verdict, canonical, judge

THING = ("pods", "shop/a")
TRUTH = {THING: [Step(5, "added", 0), Step(7, "modified", 0), Step(8, "deleted", 0), Step(9, "added", 0)]}


def body(version: int) -> dict[str, Any]:
    return {"metadata": {"name": "a", "resourceVersion": str(version)}}


def change(version: int, kind: str, *, uid: str = "u1", origin: str = "watch", time: str = "t") -> bytes:
    event = {
        "id": f"{uid}/deleted" if kind == "deleted" else f"{uid}/{version}",
        "type": f"io.kexport.object.{kind}",
        "resource": THING[0],
        "subject": THING[1],
        "partitionkey": uid,
        "resourceversion": str(version),
        "origin": origin,
        "time": time,
        "data": {"object": body(version)},
    }
    return json.dumps(event).encode()


def gap(since: int, until: int, *, complete: bool) -> bytes:
    event = {
        "id": f"gap {since} {until}",
        "type": "io.kexport.stream.gap",
        "resource": THING[0],
        "subject": "pods/shop",
        "data": {"object": {"from": str(since), "to": str(until), "complete": complete}},
    }
    return json.dumps(event).encode()


ALL = [
    change(5, "added"),
    change(7, "modified"),
    change(8, "deleted"),
    change(9, "added", uid="u2"),
]
FINAL: State = {THING: canonical(body(9))}


def flaws(verdict: Verdict) -> dict[str, int]:
    return {kind: verdict.count(kind) for kind in KINDS if verdict.count(kind)}


def test_everything_in_order_is_flawless_and_the_same_bytes_again_are_a_repeat():
    verdict = judge([*ALL, ALL[1]], TRUTH, final=FINAL)
    assert flaws(verdict) == {}
    assert (verdict.changes, verdict.delivered, verdict.repeated) == (4, 4, 1)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([ALL[0], *ALL[2:]], {"lost": 1}),
        ([ALL[0], gap(5, 9, complete=True), *ALL[2:]], {"lost": 1}),
        ([ALL[0], gap(7, 9, complete=False), *ALL[2:]], {"lost": 1}),  # a gap begins behind its first version
        ([*ALL[:2], change(6, "modified", uid="u1"), *ALL[2:]], {"invented": 1, "out of order": 1}),
        ([change(5, "modified"), *ALL[1:]], {"invented": 1, "lost": 1}),
        ([ALL[1], ALL[0], *ALL[2:]], {"out of order": 1}),
        ([*ALL[:2], ALL[3], ALL[2]], {"out of order": 1, "other state": 1}),
        ([*ALL, change(7, "modified", time="later")], {"other bytes": 1}),
        ([*ALL[:3], change(9, "added", uid="u2", origin="resync")], {"unmarked gap": 1}),
        ([*ALL[:2], gap(7, 9, complete=False)], {"other state": 1}),
    ],
)
def test_a_flaw_is_found(lines: list[bytes], found: dict[str, int]):
    assert flaws(judge(lines, TRUTH, final=FINAL)) == found


def test_what_is_missing_in_an_announced_gap_is_counted_and_no_flaw():
    inferred = [
        change(9, "deleted", origin="resync"),
        change(9, "added", uid="u2", origin="resync"),
        gap(5, 9, complete=False),
    ]
    verdict = judge([ALL[0], *inferred], TRUTH, final=FINAL)
    assert flaws(verdict) == {}
    assert (verdict.announced, verdict.inferred) == (2, 2)


def test_a_deletion_that_never_was_may_not_be_inferred_either():
    truth = {THING: TRUTH[THING][:2]}
    lines = [*ALL[:2], change(9, "deleted", origin="resync"), gap(7, 9, complete=False)]
    assert flaws(judge(lines, truth, final={THING: canonical(body(7))})) == {"invented": 1, "other state": 1}
