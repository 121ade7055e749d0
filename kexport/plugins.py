"""Installed distributions -> sink types, through pluggy and the entry-point group `kexport`.

One broken plugin is reported and costs nobody else anything; it is fatal only when the configuration names a
type that is then missing. Where KEXPORT_PLUGINS is set, no code of a distribution that it leaves out is run.
"""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

import msgspec
import pluggy

from kexport import __version__, hookspecs
from kexport.errors import ConfigError
from kexport.hookspecs import API_VERSION
from kexport.settings import nearest, reword
from kexport.sink import Sink, SinkConfig, SinkType
from kexport.telemetry import get_log

GROUP = "kexport"
ALLOWED = "KEXPORT_PLUGINS"
_FRAMES = 3


class Plugin(NamedTuple):
    """One entry point and what came of it; `problem` says why it gave nothing."""

    name: str
    distribution: str
    version: str
    sinks: tuple[SinkType[Any], ...] = ()
    problem: str = ""
    module: str = ""
    api: str = ""
    """The plugin API that it is made for; not known of one that was not imported."""
    allowed: bool = True
    """Whether KEXPORT_PLUGINS lets it in; if not, it was not imported."""
    trace: str = ""
    """The last lines of the traceback, where something was raised."""


class Plugins(NamedTuple):
    """All that was found; `types` maps the value of `type = "…"` to its sink type."""

    types: dict[str, SinkType[Any]]
    found: tuple[Plugin, ...]

    @property
    def problems(self) -> dict[str, str]:
        return {plugin.name: plugin.problem for plugin in self.found if plugin.problem}

    @property
    def absent(self) -> dict[str, str]:
        """Why a sink type is not there, by the name of its entry point, which is usually the type's."""
        return {
            plugin.name: f"its plugin {plugin.distribution} did not load: {plugin.problem}"
            if plugin.problem
            else f"its plugin {plugin.distribution} is installed but not allowed: add it to {ALLOWED}"
            for plugin in self.found
            if (plugin.problem or not plugin.allowed) and plugin.name not in self.types
        }

    def owner(self, kind: str) -> str:
        """The distribution that offers this sink type; `kind` is one of `types`."""
        return next(
            plugin.distribution for plugin in self.found if any(kind == each.name for each in plugin.sinks)
        )


def load(*extra: object) -> Plugins:
    """Load every plugin that is installed and allowed, and the modules in `extra`.

    Raises ConfigError for two sink types of one name.
    """
    found = [*_installed(), *(_register(each) for each in extra)]
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


def canonical(distribution: str) -> str:
    """The one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _installed() -> Iterator[Plugin]:
    points = entry_points(group=GROUP)
    # Set to nothing it allows nothing: a list that a template left empty must not let everything in.
    listed = os.environ.get(ALLOWED)
    allowed = None if listed is None else {canonical(each) for each in listed.split(",") if each.strip()}
    for point in points:
        plugin = _described(point)
        if allowed is None or canonical(plugin.distribution) in allowed:
            yield _load(point, plugin)
        else:
            yield plugin._replace(allowed=False)
    yield from _missing(allowed or set(), {canonical(_described(point).distribution) for point in points})


def _missing(allowed: set[str], there: set[str]) -> Iterable[Plugin]:
    for name in sorted(allowed - there):
        hint = f", did you mean kexport-{name}?" if f"kexport-{name}" in there else nearest(name, there)
        yield Plugin(
            name,
            name,
            "",
            problem=f"{ALLOWED} lists {name}, but no installed distribution of that name offers a"
            f" plugin{hint}; install it, or take it off the list",
        )


def _described(point: EntryPoint) -> Plugin:
    """What the metadata say, without running a line of it."""
    distribution, version = (point.dist.name, point.dist.version) if point.dist else ("?", "?")
    return Plugin(point.name, distribution, version, module=point.value)


def _load(point: EntryPoint, plugin: Plugin) -> Plugin:
    try:
        module = point.load()
        api = _api(module)
        if api != API_VERSION:
            return plugin._replace(api=api, problem=_other_api(plugin, api))
        return plugin._replace(api=api, sinks=_register(module, name=point.name).sinks)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a stranger's import raises is a report)
        trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
        return plugin._replace(problem=f"{type(error).__name__}: {error}{_hint(error)}", trace=trace)


def _api(module: object) -> str:
    return str(getattr(module, "kexport_api", "1"))


def _other_api(plugin: Plugin, needed: str) -> str:
    newer = needed.isdecimal() and int(needed) > int(API_VERSION)
    way_out = "upgrade kexport" if newer else f"upgrade {plugin.distribution}"
    return (
        f"{plugin.distribution} {plugin.version} needs plugin API {needed}, kexport {__version__} offers"
        f" {API_VERSION}: {way_out}"
    )


def _hint(error: BaseException) -> str:
    """A name that kexport doesn't have (yet, or any more) is mostly a plugin for another kexport."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "kexport":
        return (
            f"; it may be made for another kexport than {__version__}, which offers plugin API {API_VERSION}"
        )
    return ""


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
    if any(isinstance(answer, SinkType) for answer in answers):
        raise ConfigError(f"plugin {name!r} returns a SinkType where a list of them belongs: put it into one")
    sinks = tuple(kind for answer in answers for kind in answer)
    for kind in sinks:
        if not isinstance(kind, SinkType):
            raise ConfigError(f"plugin {name!r} returns {type(kind).__name__} where a SinkType belongs")
        _check(kind)
    return Plugin(name, name, "", sinks, module=name, api=_api(module))


def _check(kind: SinkType[Any]) -> None:
    """What its author's slip would make of it shows here, and not as a write that is repeated for ever."""
    whose = f"sink type {kind.name!r}"
    if not issubclass(kind.config, SinkConfig):
        raise ConfigError(
            f"{whose}: {kind.config.__name__} is no subclass of kexport.SinkConfig: make it one"
        )
    for setting in msgspec.structs.fields(kind.config):
        if setting.default is not msgspec.NODEFAULT:
            _check_default(whose, setting.encode_name, setting.default, setting.type)
    if not isinstance(kind.build, type):
        return  # a function may build whatever it likes
    sink = kind.build
    if not issubclass(sink, Sink):
        raise ConfigError(f"{whose}: {sink.__name__} is no subclass of kexport.Sink: make it one")
    if inspect.isabstract(sink):
        raise ConfigError(
            f"{whose}: {sink.__name__} has no method write: add `async def write(self, events)`"
        )
    for name in ("open", "write", "close"):
        method = inspect.unwrap(getattr(sink, name))
        if inspect.isfunction(method) and not inspect.iscoroutinefunction(method):
            raise ConfigError(f"{whose}: {sink.__name__}.{name} is no coroutine: write `async def {name}`")


def _check_default(whose: str, name: str, default: object, type_: Any) -> None:
    """msgspec does not look at defaults: the sink would be the first to stumble over one."""
    try:
        msgspec.convert(default, type_)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{whose}: the default of {name} is none: {reword(str(error), '')}") from error
