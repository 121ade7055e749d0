"""Which sink gets which event. Pure: no I/O, no state.

Routes stand behind the journal: a sink that is added later can still be given everything that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from kexport.config import SinkSettings
from kexport.errors import ConfigError
from kexport.event import OBJECT, Event
from kexport.tables import RouteConfig

Wanted = Callable[[Event], bool]
Resolve = Callable[[str], Iterable[str]]


class Route(NamedTuple):
    """A route with its resource names resolved, patterns left as they are; None means all."""

    resources: tuple[str, ...] | None
    namespaces: tuple[str, ...]
    changes: frozenset[str]

    def passes(self, event: Event) -> bool:
        attributes = event.attributes
        if self.resources is not None and not _named(attributes.resource, self.resources):
            return False
        if not attributes.type.startswith(OBJECT):
            return True  # gap, synced, rollback: whoever follows the resource must know
        if self.changes and event.change not in self.changes:
            return False
        return not self.namespaces or any(
            fnmatchcase(attributes.objnamespace, pattern) for pattern in self.namespaces
        )


@lru_cache(maxsize=4096)
def _named(resource: str, names: tuple[str, ...]) -> bool:
    """Whether one of these names or patterns means the resource: asked for every event, answered once."""
    return any(fnmatchcase(resource, name) for name in names)


def filters(
    routes: Iterable[RouteConfig], sinks: Mapping[str, SinkSettings], resolve: Resolve
) -> dict[str, Wanted]:
    """For each sink, whether it wants an event.

    Without routes every sink gets everything, except one that only serves as another's `rejects_to`.
    Raises ConfigError for a resource that does not exist.
    """
    by_sink: dict[str, list[Route]] = {name: [] for name in sinks}
    for number, config in enumerate(routes):
        try:
            resources = [name for pattern in config.resources for name in resolve(pattern)]
        except ConfigError as error:
            raise ConfigError(f"routes[{number}].resources: {error}") from error
        names = tuple(resources) if config.resources else None
        route = Route(names, config.namespaces, frozenset(config.changes))
        for name in config.sinks:
            by_sink[name].append(route)
    rejects = {sink.rejects_to for sink in sinks.values()}
    routed = any(by_sink.values())
    return {name: _wanted(found, name not in rejects and not routed) for name, found in by_sink.items()}


def _wanted(routes: list[Route], everything: bool) -> Wanted:
    if everything:
        return lambda _event: True
    return lambda event: any(route.passes(event) for route in routes)
