"""config.toml -> frozen structs, strictly.

Unknown keys are refused with their place and a suggestion; units are part of the names; `${NAME}` is taken
from the environment and `${file:/path}` from a file, and such values are shown as that name everywhere.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta
from typing_extensions import override

from kexport import cel, selector
from kexport.errors import ConfigError
from kexport.settings import check_keys, nearest, reword
from kexport.sink import BatchConfig, SinkConfig, SinkType
from kexport.tables import RetryConfig, Root
from kexport.terminal import mask
from kexport.transform import rules
from kexport.variables import fill_in

T = TypeVar("T")
_NOBODY: Mapping[str, str] = MappingProxyType({})
# The headers that are easily written with too few or too many brackets, or forgotten.
_HEADERS = {
    "resources": "[[resources]]",
    "transforms": "[[transforms]]",
    "routes": "[[routes]]",
    "sinks": "[sinks.NAME]",
}
_UNITS = ("_seconds", "_bytes", "_events")


class SinkSettings(NamedTuple):
    """One [sinks.NAME] table: the engine's keys, and the plugin's own settings."""

    name: str
    type: SinkType[Any]
    config: SinkConfig
    batch: BatchConfig
    retry: RetryConfig
    timeout_seconds: float
    rejects_to: str


class Config(NamedTuple):
    """A loaded configuration; `secrets` maps each value that came from `${…}` to its name."""

    root: Root
    sinks: dict[str, SinkSettings]
    secrets: dict[str, str]

    @override
    def __repr__(self) -> str:
        """No values: they may be secrets."""
        return f"<Config {len(self.root.resources)} resources, sinks {', '.join(self.sinks)}>"


def load(path: Path, types: Mapping[str, SinkType[Any]], *, absent: Mapping[str, str] = _NOBODY) -> Config:
    """Read and check a file; raises ConfigError that names the place, the problem and the way out.

    `absent` says why a sink type that could be among `types` is not.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark first
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; name the configuration with -c, or begin with"
            " the README's"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        return parse(text, types, absent=absent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str, types: Mapping[str, SinkType[Any]], *, absent: Mapping[str, str] = _NOBODY) -> Config:
    """The configuration in `text`; raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML: {error}") from error
    secrets: dict[str, str] = {}
    document = fill_in(document, secrets)
    try:
        return _checked(document, types, absent, secrets)
    except ConfigError as error:
        raise ConfigError(mask(str(error), secrets)) from error.__cause__


def _checked(
    document: Any, types: Mapping[str, SinkType[Any]], absent: Mapping[str, str], secrets: dict[str, str]
) -> Config:
    check_keys(document, Root, place="")
    root = _convert(document, Root, place="")
    sinks = {name: _sink(name, table, types, absent) for name, table in root.sinks.items()}
    _check_names(root, sinks)
    _check_conditions(root)
    return Config(root, sinks, secrets)


@functools.cache  # a reload compares: values of two structs are never equal, however alike these are
def engine_fields(kind: SinkType[Any]) -> type[msgspec.Struct]:
    """The struct of a whole [sinks.NAME] table of this type: the plugin's fields and the engine's."""
    clash = {"type", "batch", "retry", "timeout_seconds", "rejects_to"} & set(kind.config.__struct_fields__)
    if clash:
        raise ConfigError(
            f"sink type {kind.name!r} declares settings that the engine owns: {', '.join(sorted(clash))};"
            " give them other names in the plugin"
        )
    return msgspec.defstruct(
        f"{kind.name}_sink",
        [
            ("type", Annotated[Literal[kind.name], Meta(description="Which plugin.")]),
            ("batch", Annotated[BatchConfig, Meta(description="How much one write gets.")], kind.batch),
            ("retry", Annotated[RetryConfig, Meta(description="When to try again.")], RetryConfig()),
            (
                "timeout_seconds",
                Annotated[float, Meta(gt=0, description="A write that takes longer is tried again.")],
                120.0,
            ),
            (
                "rejects_to",
                Annotated[
                    str,
                    Meta(description="Sink that gets what this one will never accept; without: it is held."),
                ],
                "",
            ),
        ],
        bases=(kind.config,),
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
    )


def _sink(
    name: str, table: Mapping[str, Any], types: Mapping[str, SinkType[Any]], absent: Mapping[str, str]
) -> SinkSettings:
    place = f"sinks.{name}"
    wanted = table.get("type")
    if not isinstance(wanted, str):
        raise ConfigError(
            f'{place}: needs type = "…", one of: {", ".join(sorted(types)) or "none installed"}'
        )
    if wanted not in types and wanted in absent:
        raise ConfigError(f"{place}.type: sink type {wanted!r} cannot be used: {absent[wanted]}")
    if wanted not in types:
        raise ConfigError(
            f"{place}.type: unknown sink type {wanted!r}{nearest(wanted, types)};"
            f" installed: {', '.join(sorted(types)) or 'none'} (pip install kexport-{wanted}?)"
        )
    kind = types[wanted]
    struct = engine_fields(kind)
    check_keys(table, struct, place=place)
    whole: Any = _convert(table, struct, place=place)
    batch = table.get("batch", {})
    return SinkSettings(
        name=name,
        type=kind,
        config=whole,
        # A partly given batch keeps the sink type's own defaults for the rest.
        batch=msgspec.structs.replace(kind.batch, **{key: getattr(whole.batch, key) for key in batch}),
        retry=whole.retry,
        timeout_seconds=whole.timeout_seconds,
        rejects_to=whole.rejects_to,
    )


def _check_names(root: Root, sinks: Mapping[str, SinkSettings]) -> None:
    """Sinks that are named must exist, and rejects must end somewhere."""
    for number, route in enumerate(root.routes):
        for name in route.sinks:
            if name not in sinks:
                raise ConfigError(f"routes[{number}].sinks: no sink named {name!r}{nearest(name, sinks)}")
    for sink in sinks.values():
        trail = [sink.name]
        while target := sinks[trail[-1]].rejects_to:
            place = f"sinks.{trail[-1]}.rejects_to"
            if target not in sinks:
                raise ConfigError(f"{place}: no sink named {target!r}{nearest(target, sinks)}")
            if target in trail:
                raise ConfigError(f"{place}: goes round in a circle: {' -> '.join([*trail, target])}")
            trail.append(target)


def _check_conditions(root: Root) -> None:
    """What routes, transforms and addresses say in languages of their own can be understood."""
    port = root.http.listen.rpartition(":")[2]
    if port and int(port) > 65535:
        raise ConfigError(f"http.listen: port {port} is above 65535; name another")
    for number, transform in enumerate(root.transforms):
        with _at(f"transforms[{number}]."):
            rules(transform)
    for number, route in enumerate(root.routes):
        with _at(f"routes[{number}].labels: "):
            selector.parse(route.labels)
        if route.where:
            with _at(f"routes[{number}].where: "):
                cel.compile(route.where)
        if route.burst_events and not route.max_events_per_second:
            raise ConfigError(
                f"routes[{number}].burst_events: means nothing without max_events_per_second; set that, too"
            )


@contextmanager
def _at(place: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}{error}") from error


def _convert(value: object, struct: type[T], *, place: str) -> T:
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        problem = reword(str(error), place)
        raise ConfigError(f"{problem}{_way_out(problem)}") from error


def _way_out(problem: str) -> str:
    """What to write instead, where the problem alone does not say it."""
    for name, header in _HEADERS.items():
        if problem.startswith((f"{name}: expected", f"the key '{name}' is missing")):
            return f"; write {header}, a table for each"
    if problem.startswith("http.listen: "):
        return '; write address and port, such as "127.0.0.1:9273", or "" for none'
    key, _, rest = problem.partition(": ")
    if key.endswith(_UNITS) and rest.endswith(", got a string"):
        return "; the unit is in the key's name"
    return ""
