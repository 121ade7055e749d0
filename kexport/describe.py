"""What there is to work with: the resources a server has, the sinks that are installed."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from kexport import schema
from kexport.change import Resource, Stream
from kexport.cluster import Cluster, selector_problem, survey
from kexport.discovery import Catalogue
from kexport.errors import ConfigError
from kexport.kube import Client
from kexport.plugins import ALLOWED, Plugin, Plugins
from kexport.settings import nearest
from kexport.sink import SinkType
from kexport.tables import ClusterConfig
from kexport.terminal import plain, table

_WIDTH = 100  # columns, for sentences


async def ask(config: ClusterConfig) -> Cluster:
    """The cluster's identity and what it serves; raises ConfigError, ApiError or ConnectionLostError."""
    client = Client(config)
    try:
        await client.open()
        return await survey(client)
    finally:
        await client.close()


async def try_selectors(config: ClusterConfig, streams: Iterable[Stream]) -> None:
    """Raises ConfigError for a selector that the server refuses: asking again would not mend it."""
    client = Client(config)
    try:
        await client.open()
        for stream in streams:
            if stream.selective and (problem := await selector_problem(client, stream)):
                raise ConfigError(f"selector of {stream.key}: is refused: {problem}; correct it")
    finally:
        await client.close()


def resources(catalogue: Catalogue, *, style: str) -> str:
    """What the server serves, in its own order, as `kubectl api-resources` prints it."""
    if style == "name":
        return "\n".join(plain(resource.full_name) for resource in catalogue.resources)
    if style == "json":
        return _json([_resource(resource) for resource in catalogue.resources])
    rows = [["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "WATCHABLE"]]
    rows += [
        [
            each.name,
            ",".join(each.short_names),
            each.api_version,
            _word(each.namespaced),
            each.kind,
            _word(each.watchable),
        ]
        for each in catalogue.resources
    ]
    return table(rows)


def _resource(resource: Resource) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(resource)
    return {"resource": resource.full_name, **document, "watchable": resource.watchable}


def plugins(found: Plugins, *, style: str, verbose: bool) -> str:
    """A row for each sink type, and one for each plugin that gave none; below, why one did not load.

    `verbose`: with the end of its traceback, and the settings of each type.
    """
    if style == "json":
        return _json([_plugin(*each) for each in _types(found)])
    rows = [["TYPE", "DISTRIBUTION", "VERSION", "API", "MODULE", "STATUS"]]
    rows += [
        [
            kind.name if kind else f"({plugin.name})",
            plugin.distribution,
            plugin.version or "-",
            plugin.api or "-",
            plugin.module or "-",
            _status(plugin),
        ]
        for plugin, kind in _types(found)
    ]
    rows[1:] = sorted(rows[1:])  # they are found in whatever order they were installed
    parts = [table(rows) if len(rows) > 1 else "no plugin is installed; try: pip install kexport-file"]
    parts += [_failure(plugin, verbose=verbose) for plugin in found.found if plugin.problem]
    if verbose:
        parts += [f"{kind.name}:\n{settings(kind)}" for kind in found.types.values()]
    return "\n\n".join(parts)


def _types(found: Plugins) -> Iterator[tuple[Plugin, SinkType[Any] | None]]:
    for plugin in found.found:
        kinds: list[SinkType[Any] | None] = [*plugin.sinks]
        for kind in kinds or [None]:
            yield plugin, kind


def _status(plugin: Plugin) -> str:
    if not plugin.allowed:
        return f"not allowed ({ALLOWED})"
    if plugin.problem:
        return "did not load" if plugin.module else "not installed"
    return "ok" if plugin.sinks else "offers no sink"


def _failure(plugin: Plugin, *, verbose: bool) -> str:
    what = f"{plugin.name} did not load: {plugin.problem}" if plugin.module else plugin.problem
    lines = textwrap.wrap(plain(what), _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    if verbose:
        lines += [f"  {plain(line)}" for line in plugin.trace.splitlines()]
    return "\n".join(lines)


def _plugin(plugin: Plugin, kind: SinkType[Any] | None) -> dict[str, Any]:
    return {
        "plugin": plugin.name,
        "type": kind.name if kind else None,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "api": plugin.api,
        "module": plugin.module,
        "status": _status(plugin),
        "problem": plugin.problem,
        "traceback": plugin.trace.splitlines(),
        "settings": [_setting(row) for row in setting_rows(kind)] if kind else [],
    }


def settings_of(found: Plugins, wanted: str, *, style: str) -> str:
    """The settings of one type; raises ConfigError if it is not there."""
    if wanted in found.absent:
        raise ConfigError(f"sink type {wanted!r} cannot be shown: {found.absent[wanted]}")
    if wanted not in found.types:
        broken = "".join(f"; plugin {name} did not load: {why}" for name, why in found.problems.items())
        raise ConfigError(
            f"no sink type {wanted!r} is installed{nearest(wanted, found.types)};"
            f" installed: {', '.join(sorted(found.types)) or 'none'}{broken}"
        )
    kind = found.types[wanted]
    return _json([_setting(row) for row in setting_rows(kind)]) if style == "json" else settings(kind)


def settings(kind: SinkType[Any]) -> str:
    """What a [sinks.NAME] table of this type may say: the plugin's own settings, then the engine's."""
    return table([["SETTING", "TYPE", "DEFAULT", "DESCRIPTION"], *setting_rows(kind)])


def setting_rows(kind: SinkType[Any]) -> list[list[str]]:
    """(name, type, default as in the file, description) of each."""
    components = schema.components(kind)
    return list(_rows(components[f"{kind.name}_sink"], components, prefix=""))


def _rows(struct: Mapping[str, Any], components: Mapping[str, Any], *, prefix: str) -> Iterator[list[str]]:
    for name, field in struct["properties"].items():
        inner = components.get(str(field.get("$ref", "")).removeprefix(schema.REFERENCE))
        if inner and "properties" in inner:
            yield from _rows(_with_defaults(inner, field), components, prefix=f"{prefix}{name}.")
        else:
            required = name in struct.get("required", ()) and "default" not in field
            default = "(required)" if required else _toml(field.get("default"))
            yield [prefix + name, schema.type_words(field), default, field.get("description", "")]


def _with_defaults(inner: Mapping[str, Any], field: Mapping[str, Any]) -> dict[str, Any]:
    """The inner table with the defaults that this place gives it: each sink type has a batch of its own."""
    given = field.get("default") or {}
    properties = {
        name: {**each, "default": given[name]} if name in given else each
        for name, each in inner["properties"].items()
    }
    return {**inner, "properties": properties}


def _setting(row: list[str]) -> dict[str, str]:
    return dict(zip(("name", "type", "default", "description"), row, strict=True))


def _toml(value: object) -> str:
    """A default as one would write it in the file; TOML's literals are JSON's, as far as settings go."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _word(fact: bool) -> str:
    return "true" if fact else "false"


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)
