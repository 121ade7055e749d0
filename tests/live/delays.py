"""How long after its observation an event could be seen at each destination, phase by phase."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tests.live.far_end import FarEnd


class Phase(NamedTuple):
    """A stretch of time, in seconds since 1970; `down` is the sink whose far end was away from `gone` on."""

    name: str
    begin: float
    end: float
    down: str = ""
    gone: float = 0.0


class Seen(NamedTuple):
    observed: float
    arrived: float

    @property
    def delay(self) -> float:
        return self.arrived - self.observed


def first_seen(arrivals: Sequence[tuple[float, bytes]]) -> list[Seen]:
    """Each object's event once, though it may have come twice."""
    found: dict[str, Seen] = {}
    for arrived, line in arrivals:
        event = json.loads(line)
        if event["type"].startswith("io.kexport.object."):
            observed = datetime.fromisoformat(event["time"]).timestamp()
            found.setdefault(event["id"], Seen(observed, arrived))
    return list(found.values())


def within(seen: Sequence[Seen], phase: Phase) -> list[Seen]:
    """What was observed in this phase."""
    return [each for each in seen if phase.begin <= each.observed < phase.end]


def spread(seen: Sequence[Seen]) -> str:
    """p50, p99 and the most of the delays, in seconds."""
    if not seen:
        return "none"
    delays = sorted(each.delay for each in seen)
    p50, p99 = (delays[min(len(delays) - 1, int(len(delays) * share))] for share in (0.5, 0.99))
    return f"{p50:.2f} {p99:.2f} {delays[-1]:.2f}"


def table(far_ends: Sequence[FarEnd], phases: Sequence[Phase]) -> str:
    """A line a phase, a column a sink; an asterisk marks the sink that could not be reached."""
    seen = {far_end.sink: first_seen(far_end.arrivals) for far_end in far_ends}
    lines = ["delay in s: p50 p99 max".ljust(34) + "".join(sink.ljust(19) for sink in seen).rstrip()]
    for phase in phases:
        changes = max(len(within(each, phase)) for each in seen.values())
        line = f"{phase.name}, {phase.end - phase.begin:.0f} s, {changes} changes".ljust(34)
        for sink, each in seen.items():
            mark = "*" if sink == phase.down else ""
            line += (spread(within(each, phase)) + mark).ljust(19)
        lines.append(line.rstrip())
    return "\n".join(lines)
