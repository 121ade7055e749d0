"""What /metrics says while something goes wrong, recorded in seconds and stretched to an alert's minutes.

A phase is looked at twice, a second apart, and goes on as it went between the two looks: what grew goes on
to grow at that pace. An age or lag that is less than the time between the looks was set back in between,
and will be again: it stays. A counter goes on from where the phase before had brought it, so that
stretching makes no reset. What is absent at the second look is absent in the phase.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aiohttp
from prometheus_client.openmetrics import parser

from kexport.metrics import OPENMETRICS
from tests.testbed.prometheus import INTERVAL_SECONDS

BETWEEN_SECONDS = 1.0
AT_ONCE_SECONDS = 0.5
MOST_LOOKS = 20
# The moments of the looks are only known as well as a busy machine answers.
SET_BACK = 0.75
CLOCK = 0.85, 1.15  # growth a second of what grows as the clock does
# As the chart's ServiceMonitor makes them.
TARGET = {
    "namespace": "monitoring",
    "service": "kexport",
    "pod": "kexport-0",
    "instance": "10.0.0.7:9273",
    "job": "kexport",
}


class Look(NamedTuple):
    """One scrape: values, and which of them are counted."""

    at: float
    values: dict[str, float]
    counters: frozenset[str]


class Phase(NamedTuple):
    first: Look
    second: Look
    minutes: int


class Recording:
    """Phases, one behind the other; `series` is what Prometheus would have of them."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._phases: list[Phase] = []

    @property
    def minutes(self) -> int:
        return sum(phase.minutes for phase in self._phases)

    async def phase(self, minutes: int, act: Callable[[], Awaitable[None]]) -> None:
        """`act` comes before each look: what goes on during the phase."""
        first = await self._look_behind(act)
        await asyncio.sleep(BETWEEN_SECONDS)
        self._phases.append(Phase(first, await self._look_behind(act), minutes))

    async def _look_behind(self, act: Callable[[], Awaitable[None]]) -> Look:
        """At once: after a pause of the machine an age that was set back would look as if it had grown."""
        for _ in range(MOST_LOOKS):
            await act()
            acted = time.monotonic()
            look = await self._look()
            if look.at - acted < AT_ONCE_SECONDS:
                break
        return look

    def gone(self, minutes: int) -> None:
        """Nothing answers."""
        nothing = Look(0.0, {_name("up", TARGET): 0.0}, frozenset())
        self._phases.append(Phase(nothing, nothing, minutes))

    async def _look(self) -> Look:
        async with self._session.get(self._url + "/metrics", headers={"Accept": OPENMETRICS}) as answer:
            text, at = await answer.text(), time.monotonic()
        values, counters = {_name("up", TARGET): 1.0}, set()
        for family in parser.text_string_to_metric_families(text):
            for sample in family.samples:
                name = _name(sample.name, {**sample.labels, **TARGET})
                values[name] = float(sample.value)
                if family.type in {"counter", "histogram"}:
                    counters.add(name)
        return Look(at, values, frozenset(counters))

    def series(self) -> dict[str, str]:
        """In promtool's notation: a value, its growth from sample to sample, and how many samples."""
        names = {name for phase in self._phases for name in phase.second.values}
        return {name: " ".join(self._stretched(name)) for name in sorted(names)}

    def _stretched(self, name: str) -> list[str]:
        parts, level, seen = [], 0.0, 0.0
        for phase in self._phases:
            samples = phase.minutes * 60 // INTERVAL_SECONDS
            if name not in phase.second.values:
                parts.append(f"_x{samples}")
                continue
            value, growth = phase.second.values[name], _growth(name, phase)
            # What the stretching added to a counter so far stays added.
            start = level + value - seen if name in phase.second.counters else value
            parts.append(f"{start:.6f}{growth * INTERVAL_SECONDS:+.6f}x{samples - 1}")
            level, seen = start + growth * INTERVAL_SECONDS * samples, value
        return parts


def _growth(name: str, phase: Phase) -> float:
    """A second."""
    before, after = phase.first.values.get(name), phase.second.values[name]
    passed = phase.second.at - phase.first.at
    if before is None or not passed:
        return 0.0
    growth = (after - before) / passed
    if name in phase.second.counters or not name.partition("{")[0].endswith("_seconds"):
        return growth
    if after < SET_BACK * passed:
        return 0.0
    return 1.0 if CLOCK[0] <= growth <= CLOCK[1] else growth


def _name(metric: str, labels: dict[str, str]) -> str:
    escaped = {key: value.replace("\\", "\\\\").replace('"', '\\"') for key, value in labels.items()}
    return metric + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(escaped.items())) + "}"
