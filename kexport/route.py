"""Which sink gets which event: the conditions of [[routes]].

Routes stand behind the journal: a sink that is added later can still be given everything that is kept. Only
`labels` and `where` look into an event's data, and only after everything else said yes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from hashlib import blake2b
from typing import NamedTuple

from kexport import condition, selector
from kexport.allowance import Allowance
from kexport.cel import UndecidedError
from kexport.condition import Where
from kexport.config import SinkSettings
from kexport.errors import ConfigError
from kexport.event import OBJECT, Event
from kexport.selector import Selector
from kexport.tables import RouteConfig
from kexport.telemetry import RouteStats, get_log

Wanted = Callable[[Event], bool]
Resolve = Callable[[str], Iterable[str]]
RoutesStats = dict[tuple[int, str], RouteStats]
_log = get_log("route")


class Route(NamedTuple):
    """A route with its resource names resolved, patterns left as they are; None means all."""

    number: int
    resources: tuple[str, ...] | None
    namespaces: tuple[str, ...]
    changes: frozenset[str]
    origins: frozenset[str]
    labels: Selector
    where: Where | None
    sample: float

    def refusal(self, event: Event) -> str:
        """The condition that says no, by its key in the configuration; "" if all say yes.

        Raises UndecidedError where `labels` or `where` have no answer.
        """
        if self.resources is not None and not _named(event.attributes.resource, self.resources):
            return "resources"
        if not event.type.startswith(OBJECT):
            return ""  # gap, synced, rollback: whoever follows the resource must know
        return self._attributes_refusal(event) or self._data_refusal(event) or self._sample_refusal(event)

    def _attributes_refusal(self, event: Event) -> str:
        if self.changes and event.change not in self.changes:
            return "changes"
        if self.origins and event.attributes.origin not in self.origins:
            return "origins"
        namespace = event.attributes.objnamespace
        if self.namespaces and not any(fnmatchcase(namespace, pattern) for pattern in self.namespaces):
            return "namespaces"
        return ""

    def _data_refusal(self, event: Event) -> str:
        if self.labels and not condition.meets(self.labels, event):
            return "labels"
        return "where" if self.where and not self.where.holds(event) else ""

    def _sample_refusal(self, event: Event) -> str:
        return "sample" if self.sample < 1 and share(event.id) >= self.sample else ""


def share(event_id: str) -> float:
    """Where an event stands between 0 and 1, by its id alone: the same at every repeat, and everywhere."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=6).digest(), "big") / (1 << 48)


class Gate:
    """A route as one sink has it: what it keeps back is counted, and what it can't decide is said once."""

    def __init__(self, route: Route, config: RouteConfig, stats: RouteStats, *, sink: str) -> None:
        self.route = route
        self.stats = stats
        self._sink = sink
        self._allowance = (
            Allowance(config.max_events_per_second, config.burst_events)
            if config.max_events_per_second
            else None
        )
        self._said = False
        # A reload or another discovery makes a new gate; what was counted goes on.
        if config.where or config.labels:
            stats.undecided = stats.undecided or 0
        if config.sample < 1:
            stats.sampled_out = stats.sampled_out or 0
        if self._allowance:
            stats.rate_limited = stats.rate_limited or 0

    def refusal(self, event: Event) -> str:
        """As Route.refusal, or "undecided", or "max_events_per_second"."""
        try:
            refusal = self.route.refusal(event)
        except UndecidedError as error:
            self._say(event, error)
            return "undecided"
        if refusal or not self._allowance or not event.type.startswith(OBJECT):
            return refusal
        return "" if self._allowance.take(event.time.timestamp()) else "max_events_per_second"

    def _say(self, event: Event, error: UndecidedError) -> None:
        if not self._said:
            self._said = True
            _log.warning(
                "a route has no answer for an object, and leaves it out; others are only counted",
                route=f"routes[{self.route.number}]", sink=self._sink, event=event.id,
                resource=event.attributes.resource, object=event.subject, error=error,
            )  # fmt: skip

    def count(self, refusal: str) -> None:
        """The sink did not get an event, and this is why not by this route."""
        stats = self.stats
        if refusal == "undecided":
            stats.undecided = (stats.undecided or 0) + 1
        elif refusal == "sample":
            stats.sampled_out = (stats.sampled_out or 0) + 1
        elif refusal == "max_events_per_second":
            stats.rate_limited = (stats.rate_limited or 0) + 1


@lru_cache(maxsize=4096)
def _named(resource: str, names: tuple[str, ...]) -> bool:
    """Whether one of these names or patterns means the resource: asked for every event, answered once."""
    return any(fnmatchcase(resource, name) for name in names)


def routes(configs: Iterable[RouteConfig], resolve: Resolve) -> list[Route]:
    """Raises ConfigError, with its place, for a resource that does not exist."""
    where = cache(Where)  # one evaluation for all who ask the same
    found = []
    for number, config in enumerate(configs):
        try:
            resources = [name for pattern in config.resources for name in resolve(pattern)]
        except ConfigError as error:
            raise ConfigError(f"routes[{number}].resources: {error}") from error
        route = Route(
            number=number,
            resources=tuple(resources) if config.resources else None,
            namespaces=config.namespaces,
            changes=frozenset(config.changes),
            origins=frozenset(config.origins),
            labels=selector.parse(config.labels),
            where=where(config.where) if config.where else None,
            sample=config.sample,
        )
        found.append(route)
    return found


class Gates(NamedTuple):
    """What stands before a sink; `everything`: nothing does."""

    gates: list[Gate]
    everything: bool

    def wants(self, event: Event) -> bool:
        """Whether some route gives the event to the sink; if none does, what held it back is counted."""
        if self.everything:
            return True
        refusals = []
        for gate in self.gates:
            refusal = gate.refusal(event)
            if not refusal:
                return True
            refusals.append(refusal)
        for gate, refusal in zip(self.gates, refusals, strict=True):
            gate.count(refusal)
        return False


def gates(
    configs: Sequence[RouteConfig],
    sinks: Mapping[str, SinkSettings],
    resolve: Resolve,
    before: RoutesStats | None = None,
) -> dict[str, Gates]:
    """For each sink its gates, which count on from `before`.

    Without routes every sink gets everything, except one that only serves as another's `rejects_to`.
    Raises ConfigError for a resource that does not exist.
    """
    by_sink: dict[str, list[Gate]] = {name: [] for name in sinks}
    for route, config in zip(routes(configs, resolve), configs, strict=True):
        for name in dict.fromkeys(config.sinks):
            stats = (before or {}).get((route.number, name)) or RouteStats()
            by_sink[name].append(Gate(route, config, stats, sink=name))
    rejects = {sink.rejects_to for sink in sinks.values()}
    routed = any(by_sink.values())
    return {name: Gates(found, name not in rejects and not routed) for name, found in by_sink.items()}


def counters(found: Mapping[str, Gates]) -> RoutesStats:
    """What all these gates count."""
    return {(gate.route.number, name): gate.stats for name, each in found.items() for gate in each.gates}
