"""What a change costs in steps, not in seconds: calls of functions between a line of a watch and the journal.

The count is the same on every machine; a version of Python may differ by a few. Who adds a call to every
change sees it here, and says why.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any, cast

from kexport.change import Resource, Stream
from kexport.encoder import Encoder
from kexport.intake import Intake
from kexport.journal import Journal
from kexport.kube import Client
from kexport.parts import Parts
from kexport.shape import Shaper
from kexport.telemetry import StreamStats
from tests.bench.objects import Shape

PODS = Resource(group="", version="v1", name="pods", kind="Pod", namespaced=True)
LINES = 200
MOST_CALLS = 44


class Nowhere:
    """A journal that takes everything and keeps what it was given."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def append(self, stream: str, events: list[Any], *more: Any) -> None:
        self.events += events


def calls_of(lines: list[bytes]) -> tuple[Counter[str], Nowhere]:
    stream, journal = Stream(resource=PODS), Nowhere()
    parts = Parts(
        stream, cast("Client", None), cast("Journal", journal), Encoder(stream, "prod"),
        Shaper("pods", b"key"), StreamStats(),
    )  # fmt: skip
    intake, calls = Intake(parts), Counter[str]()

    def count(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            calls[getattr(argument, "__qualname__", str(argument))] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        intake.take(lines)
    finally:
        sys.setprofile(before)
    return calls, journal


def test_a_change_takes_no_more_steps_than_it_did() -> None:
    pods = Shape("pods", objects=50, head={"kind": "Pod", "apiVersion": "v1"})
    calls, journal = calls_of([pods.change(number)[:-1] for number in range(LINES)])
    assert len(journal.events) == LINES
    per_change = calls.total() / LINES
    print(f"\n{per_change:.1f} calls a change; {calls.most_common(12)}")
    assert per_change <= MOST_CALLS


def test_a_body_is_parsed_three_times_at_most() -> None:
    """Once for its members, once for its identity, once to cut managedFields: nobody asked for more."""
    pods = Shape("pods", objects=50, head={"kind": "Pod", "apiVersion": "v1"})
    calls, _ = calls_of([pods.change(number)[:-1] for number in range(LINES)])
    assert sum(count for name, count in calls.items() if name.endswith("Decoder.decode")) <= 3 * LINES
