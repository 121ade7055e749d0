"""What a configuration does with one object: `kexport check --explain`.

Nothing is imitated: the same functions decide here as in the exporter. No value of the object is shown, since
it may be a secret; only paths are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from kexport import plan, route, sample, selector
from kexport.cel import UndecidedError
from kexport.change import GONE, ChangeType, Metadata, Origin, RawObject, Resource, Stream
from kexport.cluster import survey
from kexport.config import Config
from kexport.discovery import Catalogue
from kexport.encoder import Encoder, now
from kexport.errors import ConfigError, ConnectionLostError, ProtocolError
from kexport.event import Event
from kexport.kube import Client
from kexport.lines import decode_metadata
from kexport.paths import show
from kexport.route import Gate, Gates
from kexport.shape import HASHED, Shaper
from kexport.transform import Rule

ALWAYS = "always"
_any = msgspec.json.Decoder()


class Entry(msgspec.Struct, frozen=True):
    """A [[resources]] entry: the streams through which the object comes; without one, why not."""

    entry: str
    resource: str
    streams: list[str]
    reason: str = ""


class Effect(msgspec.Struct, frozen=True):
    """What became of one place in the object: gone, hashed, new or changed."""

    path: str
    what: str


class Step(msgspec.Struct, frozen=True):
    """What one key of a [[transforms]] entry did."""

    entry: str
    effects: list[Effect]


class Passage(msgspec.Struct, frozen=True):
    """A route's answer: the condition that said no, and why, if more is to be said."""

    route: str
    passes: bool
    condition: str = ""
    reason: str = ""


class Delivery(msgspec.Struct, frozen=True):
    sink: str
    gets: bool
    routes: list[Passage]


class Explanation(msgspec.Struct, frozen=True):
    object: str
    change: str
    origin: str
    resources: list[Entry]
    transforms: list[Step] = []
    sinks: list[Delivery] = []


async def ask(
    config: Config, what: str, *, change: ChangeType, origin: Origin, max_wait_seconds: float
) -> list[Explanation]:
    """Explain every object that `what` means, as sample.read has it; raises what that raises."""
    client = Client(config.root.cluster)
    try:
        async with asyncio.timeout(max_wait_seconds):
            await client.open()
            cluster = await survey(client)
            objects = await sample.read(what, client, cluster.catalogue)
    except TimeoutError as error:
        raise ConnectionLostError(
            f"no answer from {client.address} within {max_wait_seconds:g} s; --timeout allows more"
        ) from error
    finally:
        await client.close()
    name = config.root.cluster.name or cluster.uid or "unknown"
    return [
        explain(config, cluster.catalogue, each, cluster=name, change=change, origin=origin)
        for each in objects
    ]


def explain(
    config: Config,
    catalogue: Catalogue,
    members: RawObject,
    *,
    cluster: str,
    change: ChangeType,
    origin: Origin,
) -> Explanation:
    """Follow one object on its way; raises ConfigError for one that no server has stored."""
    resource = _resource(members, catalogue)
    try:
        metadata = decode_metadata(members)
    except ProtocolError as error:
        raise ConfigError(
            f"--explain: {error}; take the sample from the cluster: kubectl get -o json"
        ) from error
    entries, stream = _entries(config, catalogue, members, metadata, resource, change, origin)
    what = f"{resource.full_name}/{metadata.key}"
    if stream is None:
        return Explanation(what, change.value, origin.value, entries)
    if change in GONE:
        change = stream.gone
    steps, shaped = _shaped(config, catalogue, members, resource)
    event = Encoder(stream, cluster).change(change, metadata, shaped, origin=origin, time=now())
    gates = route.gates(config.root.routes, config.sinks, plan.resolver(catalogue))
    sinks = [_delivery(name, each, event, config) for name, each in gates.items()]
    return Explanation(what, change.value, origin.value, entries, steps, sinks)


def _resource(members: RawObject, catalogue: Catalogue) -> Resource:
    kind, version = sample.kind(members), sample.api_version(members)
    group = version.rpartition("/")[0]
    same = [each for each in catalogue.resources if (each.kind, each.group) == (kind, group)]
    found = [each for each in same if each.api_version == version] or same
    if not found:
        raise ConfigError(f"--explain: the server has no kind {kind!r} of apiVersion {version!r}")
    return found[0]


# -- which streams take it --------------------------------------------------------------------------------


def _entries(
    config: Config,
    catalogue: Catalogue,
    members: RawObject,
    metadata: Metadata,
    resource: Resource,
    change: ChangeType,
    origin: Origin,
) -> tuple[list[Entry], Stream | None]:
    """Every entry's answer, and the first stream that takes the object."""
    labels = _any.decode(members["metadata"]).get("labels") or {}
    entries: list[Entry] = []
    first: Stream | None = None
    for number, each in enumerate(config.root.resources):
        try:
            found = plan.entry(each, catalogue, number=number)
        except ConfigError as error:
            entries.append(Entry(f"resources[{number}]", each.resource, [], str(error)))
            continue
        refusals = {
            stream: _stream_refusal(stream, resource, metadata.namespace, labels, change, origin)
            for stream in found
        }
        taken = [stream for stream, refusal in refusals.items() if not refusal]
        first = first or next(iter(taken), None)
        reason = "" if taken else next((why for why in refusals.values() if why != "resource"), "resource")
        if taken and each.field_selector:
            reason = "if field_selector says yes, which the server decides"
        keys = [str(stream.key) for stream in taken]
        entries.append(Entry(f"resources[{number}]", each.resource, keys, reason))
    return entries, first


def _stream_refusal(
    stream: Stream,
    resource: Resource,
    namespace: str,
    labels: dict[str, str],
    change: ChangeType,
    origin: Origin,
) -> str:
    """The key that keeps the object, or events of this change, out of the stream."""
    if stream.resource.full_name != resource.full_name:
        return "resource"
    if (stream.namespace and stream.namespace != namespace) or not stream.wants(namespace):
        return "namespaces"
    if not selector.admits(selector.parse(stream.label_selector), labels):
        return "label_selector"
    if change in GONE and stream.deletions == "skip":
        return "deletions"
    return "initial" if origin is Origin.SNAPSHOT and stream.initial == "silent" else ""


# -- what becomes of it -----------------------------------------------------------------------------------


def _shaped(
    config: Config, catalogue: Catalogue, members: RawObject, resource: Resource
) -> tuple[list[Step], bytes]:
    """The effects of each key, told by doing all up to it, and the object as it would be stored."""
    key = secrets.token_bytes(32)
    rules: list[Rule] = []
    shaped = Shaper(resource.full_name, key).shape(members)
    steps = [Step(ALWAYS, [*_effects(_plain(members), _any.decode(shaped), ())])]
    for number, transform in enumerate(config.root.transforms):
        for rule in plan.shaping_of(transform, resource, catalogue, number=number):
            rules.append(rule)
            after = Shaper(resource.full_name, key, rules).shape(members)
            effects = [*_effects(_any.decode(shaped), _any.decode(after), ())]
            steps.append(Step(f"transforms[{number}].{rule.kind}", effects))
            shaped = after
    return steps, shaped


def _plain(members: RawObject) -> Any:
    return _any.decode(msgspec.json.encode(members))


def _effects(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[Effect]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            here = (*path, name)
            if name not in after:
                yield Effect(show(here), "gone")
            elif name not in before:
                yield Effect(show(here), "new")
            else:
                yield from _effects(before[name], after[name], here)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _effects(old, new, (*path, number))
    elif before != after:
        hashed = isinstance(after, str) and after.startswith(HASHED)
        yield Effect(show(path), "hashed" if hashed else "changed")


# -- who gets it ------------------------------------------------------------------------------------------


def _delivery(name: str, gates: Gates, event: Event, config: Config) -> Delivery:
    passages = [_passage(gate, event, config) for gate in gates.gates]
    return Delivery(name, gates.everything or any(each.passes for each in passages), passages)


def _passage(gate: Gate, event: Event, config: Config) -> Passage:
    number = gate.route.number
    try:
        refusal, reason = gate.route.refusal(event), ""
    except UndecidedError as error:
        refusal, reason = "undecided", str(error)
    settings = config.root.routes[number]
    if refusal == "sample":
        reason = f"this version is not in the sample of {settings.sample:g}"
    if not refusal and settings.max_events_per_second:
        reason = f"as long as they are at most {settings.max_events_per_second:g} a second"
    return Passage(f"routes[{number}]", not refusal, refusal, reason)
