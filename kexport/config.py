"""config.toml -> frozen structs, strictly.

Unknown keys are refused with their place and a suggestion; units are part of the names; `${NAME}` is taken
from the environment and `${file:/path}` from a file, and such values are shown as that name everywhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta
from typing_extensions import override

from kexport.errors import ConfigError
from kexport.settings import check_keys, nearest, reword
from kexport.sink import BatchConfig, SinkConfig, SinkType
from kexport.terminal import mask
from kexport.variables import fill_in

T = TypeVar("T")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table."""


class ClusterConfig(_Table, frozen=True):
    name: Annotated[
        str, Meta(description="The cluster's name in every event; default: the kube-system namespace's uid.")
    ] = ""
    kubeconfig: Annotated[
        str, Meta(description="Kubeconfig file; default: in-cluster, else $KUBECONFIG, else ~/.kube/config.")
    ] = ""
    context: Annotated[str, Meta(description="Context of the kubeconfig; default: the current one.")] = ""
    url: Annotated[
        str, Meta(description="An API server without credentials, such as kubectl proxy's address.")
    ] = ""
    list_requests_per_second: Annotated[
        float, Meta(gt=0, description="Most list and discovery requests a second; watches don't count.")
    ] = 20.0
    max_snapshots: Annotated[
        int, Meta(ge=1, description="Most streams that are listed at the same time.")
    ] = 4
    recover_max_requests: Annotated[
        int, Meta(ge=0, description="Most requests to read a stream's gap back from history; 0: don't.")
    ] = 20_000
    recover_max_seconds: Annotated[
        float, Meta(ge=0, description="How long a stream's gap may be read back from history.")
    ] = 60.0
    recover_scan_revisions: Annotated[
        int,
        Meta(ge=0, description="Most versions of a gap that are listed, to find short-lived objects."),
    ] = 1000


class JournalConfig(_Table, frozen=True):
    path: Annotated[
        str, Meta(description="Directory of the journal; ':memory:' keeps nothing, for looking only.")
    ] = "kexport-state"
    max_bytes: Annotated[
        int, Meta(ge=1 << 20, description="Most bytes of stored events; what happens then: when_full.")
    ] = 4 << 30
    keep_seconds: Annotated[
        float, Meta(ge=0, description="How long delivered events are kept, for replay.")
    ] = 3600.0
    when_full: Annotated[
        Literal["pause", "drop_oldest"],
        Meta(
            description="pause: stop watching until there is room; drop_oldest: give up events, with a gap."
        ),
    ] = "pause"
    commit_seconds: Annotated[
        float, Meta(ge=0, le=0.02, description="How long a change waits for others to be committed with it.")
    ] = 0.01
    memory_bytes: Annotated[
        int,
        Meta(ge=0, description="Newest events kept in memory, so that a lane that keeps up reads no disk."),
    ] = 32 << 20
    synchronous: Annotated[
        Literal["full", "normal"],
        Meta(description="full: durable when the power fails; normal: durable when the process is killed."),
    ] = "full"


class ResourceConfig(_Table, frozen=True):
    resource: Annotated[
        str,
        Meta(min_length=1, description="As kubectl writes it: pods, deploy, deployments.apps, *.apps, *."),
    ]
    namespaces: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Names, or patterns such as prod-*; default: all namespaces."),
    ] = ()
    label_selector: Annotated[str, Meta(description="As kubectl -l takes it; applied by the server.")] = ""
    field_selector: Annotated[
        str, Meta(description="As kubectl --field-selector takes it; applied by the server.")
    ] = ""
    initial: Annotated[
        Literal["emit", "silent"],
        Meta(description="Whether the objects of the first listing become events (origin=snapshot)."),
    ] = "emit"


class TransformConfig(_Table, frozen=True):
    resources: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="Resources as in [[resources]], or patterns: *.apps, *."),
    ]
    drop: Annotated[
        tuple[str, ...],
        Meta(description="Fields to leave out: status, metadata.annotations['example.com/checksum']."),
    ] = ()


class RouteConfig(_Table, frozen=True):
    sinks: Annotated[tuple[str, ...], Meta(min_length=1, description="Names of [sinks.NAME] tables.")]
    resources: Annotated[
        tuple[str, ...], Meta(description="Resources or patterns (*.apps); default: all.")
    ] = ()
    namespaces: Annotated[
        tuple[str, ...], Meta(description="Namespaces or patterns; default: all, and cluster-scoped objects.")
    ] = ()
    changes: Annotated[
        tuple[Literal["added", "modified", "deleted", "left"], ...],
        Meta(description="Kinds of change; default: all. Stream events (gap, synced) always pass."),
    ] = ()


class RetryConfig(_Table, frozen=True):
    min_seconds: Annotated[float, Meta(gt=0, description="First wait after a failed write.")] = 0.5
    max_seconds: Annotated[float, Meta(gt=0, description="Longest wait between two tries.")] = 60.0


class SinkSettings(NamedTuple):
    """One [sinks.NAME] table: the engine's keys, and the plugin's own settings."""

    name: str
    type: SinkType[Any]
    config: SinkConfig
    batch: BatchConfig
    retry: RetryConfig
    timeout_seconds: float
    rejects_to: str


class Root(_Table, frozen=True):
    """The whole file; `sinks` stays untyped here, since each type has keys of its own."""

    resources: Annotated[tuple[ResourceConfig, ...], Meta(min_length=1, description="What to watch.")]
    sinks: Annotated[dict[str, dict[str, Any]], Meta(min_length=1, description="Where to write.")]
    cluster: ClusterConfig = ClusterConfig()
    journal: JournalConfig = JournalConfig()
    transforms: tuple[TransformConfig, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
    shutdown_seconds: Annotated[
        float, Meta(ge=0, description="How long a stopping process goes on delivering what it has.")
    ] = 20.0


class Config(NamedTuple):
    """A loaded configuration; `secrets` maps each value that came from `${…}` to its name."""

    root: Root
    sinks: dict[str, SinkSettings]
    secrets: dict[str, str]

    @override
    def __repr__(self) -> str:
        """No values: they may be secrets."""
        return f"<Config {len(self.root.resources)} resources, sinks {', '.join(self.sinks)}>"


def load(path: Path, types: Mapping[str, SinkType[Any]]) -> Config:
    """Read and check a file; raises ConfigError that names the place, the problem and the way out."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        return parse(text, types)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str, types: Mapping[str, SinkType[Any]]) -> Config:
    """The configuration in `text`; raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML: {error}") from error
    secrets: dict[str, str] = {}
    document = fill_in(document, secrets)
    try:
        return _checked(document, types, secrets)
    except ConfigError as error:
        raise ConfigError(mask(str(error), secrets)) from error.__cause__


def _checked(document: Any, types: Mapping[str, SinkType[Any]], secrets: dict[str, str]) -> Config:
    check_keys(document, Root, place="")
    root = _convert(document, Root, place="")
    sinks = {name: _sink(name, table, types) for name, table in root.sinks.items()}
    _check_names(root, sinks)
    return Config(root, sinks, secrets)


def engine_fields(kind: SinkType[Any]) -> type[msgspec.Struct]:
    """The struct of a whole [sinks.NAME] table of this type: the plugin's fields and the engine's."""
    clash = {"type", "batch", "retry", "timeout_seconds", "rejects_to"} & set(kind.config.__struct_fields__)
    if clash:
        raise ConfigError(f"sink type {kind.name!r} declares settings that the engine owns: {sorted(clash)}")
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


def _sink(name: str, table: Mapping[str, Any], types: Mapping[str, SinkType[Any]]) -> SinkSettings:
    place = f"sinks.{name}"
    wanted = table.get("type")
    if not isinstance(wanted, str):
        raise ConfigError(
            f'{place}: needs type = "…", one of: {", ".join(sorted(types)) or "none installed"}'
        )
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


def _convert(value: object, struct: type[T], *, place: str) -> T:
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise ConfigError(reword(str(error), place)) from error
