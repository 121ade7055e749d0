"""Installed distributions -> sink types, through pluggy and the entry-point group `kexport`.

One broken plugin is reported and costs nobody else anything; it is fatal only when the configuration names a
type that is then missing.
"""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

import pluggy

from kexport import hookspecs
from kexport.errors import ConfigError
from kexport.sink import SinkType
from kexport.telemetry import get_log

GROUP = "kexport"


class Plugin(NamedTuple):
    """One entry point and what came of it; `problem` says why it gave nothing."""

    name: str
    distribution: str
    version: str
    sinks: tuple[SinkType[Any], ...] = ()
    problem: str = ""


class Plugins(NamedTuple):
    """All that was found; `types` maps the value of `type = "…"` to its sink type."""

    types: dict[str, SinkType[Any]]
    found: tuple[Plugin, ...]

    @property
    def problems(self) -> dict[str, str]:
        return {plugin.name: plugin.problem for plugin in self.found if plugin.problem}


def load(*extra: object) -> Plugins:
    """Load every installed plugin and the modules in `extra`; raises ConfigError for two of one name."""
    found = [*(_load(point) for point in entry_points(group=GROUP)), *(_register(each) for each in extra)]
    types: dict[str, SinkType[Any]] = {}
    owners: dict[str, str] = {}
    for plugin in found:
        for kind in plugin.sinks:
            if kind.name in types:
                raise ConfigError(
                    f"sink type {kind.name!r} is offered by both {owners[kind.name]} and"
                    f" {plugin.distribution}: uninstall one of them"
                )
            types[kind.name], owners[kind.name] = kind, plugin.distribution
    if os.environ.get("KEXPORT_TRACE_PLUGINS"):
        for plugin in found:
            get_log("plugins").info("plugin loaded", **plugin._asdict())
    return Plugins(types, tuple(found))


def _load(point: EntryPoint) -> Plugin:
    distribution = point.dist.name if point.dist else "?"
    version = point.dist.version if point.dist else "?"
    try:
        plugin = _register(point.load(), name=point.name)
    except Exception as error:  # noqa: BLE001  (whatever a stranger's import raises is a report here)
        plugin = Plugin(point.name, distribution, version, problem=f"{type(error).__name__}: {error}")
    return plugin._replace(distribution=distribution, version=version)


def _register(module: object, *, name: str = "") -> Plugin:
    """Ask one plugin through a manager of its own, so that its failure is its own."""
    name = name or getattr(module, "__name__", type(module).__name__)
    manager = pluggy.PluginManager("kexport")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=name)
    manager.check_pending()  # a misspelt hook name would otherwise never be called, and nobody told
    answers = manager.hook.kexport_sinks()
    if not answers:
        raise ConfigError(f"plugin {name!r} has no @hookimpl def kexport_sinks()")
    sinks = tuple(kind for answer in answers for kind in answer)
    for kind in sinks:
        if not isinstance(kind, SinkType):
            raise ConfigError(f"plugin {name!r} returns {type(kind).__name__} where a SinkType belongs")
    return Plugin(name, name, "", sinks)
