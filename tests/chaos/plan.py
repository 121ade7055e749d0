"""Which fault happens when, decided by a seed alone: the same seed and length give the same plan.

Kinds are dealt like cards, each as often as its weight before the next round begins, so that no run leaves
one out by chance. Pauses are shorter than many faults: faults of different targets overlap. Two of one target
never do, since nobody can kill what is dead.
"""

from __future__ import annotations

import random
from typing import NamedTuple


class Kind(NamedTuple):
    """What can go wrong with what, for how long, and how often in a round."""

    target: str
    name: str
    shortest: float
    longest: float
    weight: int = 1


class Fault(NamedTuple):
    """One line of the plan: `seconds` is how long the trouble stays; some are over at once."""

    at: float
    kind: Kind
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:7.1f} s  {self.kind.target} {self.kind.name} {self.seconds:.1f} s"


KINDS = (
    Kind("kexport", "killed", 0, 6, weight=4),
    Kind("kexport", "stopped", 1, 8, weight=2),
    Kind("apiserver", "killed", 0, 5, weight=2),
    Kind("apiserver", "stopped", 1, 8),
    Kind("broker", "killed", 0, 8),
    Kind("broker", "stopped", 1, 10),
    Kind("s3", "away", 1, 10),
    Kind("s3", "stopped", 1, 10),
    Kind("api link", "cut", 0, 0, weight=2),
    Kind("api link", "stalled", 3, 20),
    Kind("api link", "halved", 0, 0, weight=2),
    Kind("api link", "delayed", 3, 10),
    Kind("api link", "throttled", 3, 10),
    Kind("broker link", "cut", 0, 0),
    Kind("broker link", "stalled", 3, 15),
    Kind("broker link", "halved", 0, 0),
    Kind("broker link", "delayed", 3, 10),
    Kind("s3 link", "cut", 0, 0),
    Kind("s3 link", "stalled", 3, 15),
    Kind("s3 link", "halved", 0, 0),
    Kind("s3 link", "throttled", 3, 10),
    Kind("etcd", "compacted", 0, 0, weight=2),
    Kind("token", "revoked", 1, 8, weight=2),
    Kind("rights", "revoked", 1, 8),
    Kind("journal volume", "full", 2, 10, weight=2),
    Kind("clock", "ahead", 2, 10),
    Kind("clock", "behind", 2, 10),
)
LONG_KINDS = (
    # kexport needs up to 75 s to notice, so a short run has no room for it.
    Kind("api link", "half-open", 0, 0),
    # Longer than the API server's memory, with etcd's compacted meanwhile: a gap that can't be closed.
    Kind("kexport", "away while history goes", 15, 30),
)
LONG_MINUTES = 5.0
QUIET_SECONDS = 3.0


def kinds(minutes: float) -> tuple[Kind, ...]:
    return KINDS + LONG_KINDS if minutes >= LONG_MINUTES else KINDS


def plan(
    seed: int, *, minutes: float, per_minute: float, without: frozenset[str] = frozenset()
) -> list[Fault]:
    """The faults of a run, in their order; `without` names targets which this machine can't trouble."""
    chance = random.Random(seed)
    deck: list[Kind] = []
    free = {kind.target: 0.0 for kind in kinds(minutes)}
    faults: list[Fault] = []
    at, end = QUIET_SECONDS, minutes * 60
    while at < end:
        if not deck:
            deck = [kind for kind in kinds(minutes) for _ in range(kind.weight) if kind.target not in without]
            chance.shuffle(deck)
        # The first one whose target is in order; none: time passes.
        choice = next((number for number, kind in enumerate(deck) if free[kind.target] <= at), None)
        if choice is not None:
            kind = deck.pop(choice)
            fault = Fault(round(at, 1), kind, round(chance.uniform(kind.shortest, kind.longest), 1))
            faults.append(fault)
            free[kind.target] = at + fault.seconds + 2
        at += chance.uniform(0.3, 1.7) * 60 / per_minute
    return faults
