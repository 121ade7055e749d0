"""Configuration and what the server serves -> the streams to follow, and what becomes of objects. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from itertools import chain
from typing import NamedTuple

from kexport.change import Resource, Stream, StreamKey
from kexport.discovery import SAME_AS, Catalogue
from kexport.errors import ConfigError, UnknownResourceError
from kexport.paths import parse_path
from kexport.tables import ResourceConfig, TransformConfig
from kexport.transform import Rule, rules


def streams(configs: Iterable[ResourceConfig], catalogue: Catalogue) -> list[Stream]:
    """One stream for each resource and namespace; raises ConfigError that names the [[resources]] entry."""
    found = (entry(config, catalogue, number=number) for number, config in enumerate(configs))
    return _distinct(chain.from_iterable(found))


class Plan(NamedTuple):
    """The streams of what is served now, and the names that wait for something to be installed."""

    streams: list[Stream]
    waiting: list[str]


def make(configs: Iterable[ResourceConfig], catalogue: Catalogue) -> Plan:
    """As `streams`, for a process that stays: what may come later is waited for."""
    here: list[Stream] = []
    waiting = []
    for number, config in enumerate(configs):
        try:
            here += entry(config, catalogue, number=number)
        except ConfigError as error:
            unknown = isinstance(error.__cause__, UnknownResourceError)
            if not (unknown and catalogue.may_come(config.resource)):
                raise
            waiting.append(config.resource)
    return Plan(_distinct(here), waiting)


def entry(config: ResourceConfig, catalogue: Catalogue, *, number: int) -> list[Stream]:
    """The streams of [[resources]] entry `number` alone; raises ConfigError that names it."""
    place = f"resources[{number}]"
    try:
        resources = catalogue.find(config.resource)
    except ConfigError as error:
        raise ConfigError(f"{place}.resource: {error}") from error
    named = "*" not in config.resource
    return [stream for resource in resources for stream in _of(config, resource, place, named=named)]


def _of(config: ResourceConfig, resource: Resource, place: str, *, named: bool) -> Iterable[Stream]:
    common = {
        "resource": resource,
        "label_selector": config.label_selector,
        "field_selector": config.field_selector,
        "initial": config.initial,
        "deletions": config.deletions,
        "diff": config.diff if isinstance(config.diff, str) else "full" if config.diff else "",
        "unchanged": config.unchanged,
        "ignore": config.ignore,
    }
    _check_diff(config, place)
    if not config.namespaces:
        return [Stream(**common)]  # type: ignore[arg-type]  # typed above
    if not resource.namespaced:
        if named:
            raise ConfigError(
                f"{place}.namespaces: {resource.full_name} is not namespaced; leave namespaces out"
            )
        return []
    if any(set(name) & set("*?[") for name in config.namespaces):
        # Patterns are applied here: one stream for all namespaces follows them as they come and go.
        return [Stream(**common, only_namespaces=tuple(sorted(config.namespaces)))]  # type: ignore[arg-type]
    return [Stream(**common, namespace=name) for name in config.namespaces]  # type: ignore[arg-type]


def _check_diff(config: ResourceConfig, place: str) -> None:
    if not config.diff and config.unchanged == "drop":
        raise ConfigError(
            f"{place}.unchanged: only a diff shows that nothing changed; set diff = true as well"
        )
    if config.unchanged != "drop" and config.ignore:
        raise ConfigError(f'{place}.ignore: has a use with unchanged = "drop" only; set that as well')
    for text in config.ignore:
        try:
            parse_path(text)
        except ConfigError as error:
            raise ConfigError(f"{place}.ignore: {error}") from error


def _distinct(streams: Iterable[Stream]) -> list[Stream]:
    """Each stream once, also when two entries give it."""
    found: dict[StreamKey, Stream] = {}
    for stream in streams:
        found.setdefault(stream.key, stream)
    names = {stream.resource.full_name for stream in found.values()}
    for alias, name in SAME_AS.items():
        if {alias, name} <= names:
            raise ConfigError(
                f"resources: {alias} and {name} are the same objects under two names; keep one of them"
            )
    return list(found.values())


def shaping(transforms: Iterable[TransformConfig], resource: Resource, catalogue: Catalogue) -> list[Rule]:
    """What the transforms do to this resource's objects, in order; raises ConfigError with the place."""
    return [
        rule
        for number, config in enumerate(transforms)
        for rule in shaping_of(config, resource, catalogue, number=number)
    ]


def shaping_of(
    config: TransformConfig, resource: Resource, catalogue: Catalogue, *, number: int
) -> list[Rule]:
    """What [[transforms]] entry `number` alone does to this resource's objects."""
    place = f"transforms[{number}]."
    try:
        if not any(matches(name, resource, catalogue) for name in config.resources):
            return []
    except ConfigError as error:
        raise ConfigError(f"{place}resources: {error}") from error
    try:
        return rules(config)
    except ConfigError as error:
        raise ConfigError(f"{place}{error}") from error


def resolver(catalogue: Catalogue | None) -> Callable[[str], list[str]]:
    """Names in routes -> full names of resources; patterns, and all names without a catalogue, stay."""

    def resolve(name: str) -> list[str]:
        if catalogue is None or "*" in name:
            return [name]
        try:
            return [each.full_name for each in catalogue.find(name)]
        except UnknownResourceError:
            if not catalogue.may_come(name):
                raise
            return [name.lower()]

    return resolve


def matches(name: str, resource: Resource, catalogue: Catalogue) -> bool:
    """Whether a name or pattern, as in [[resources]], means this resource."""
    if "*" in name:
        return name == "*" or fnmatchcase(resource.full_name, name)
    try:
        return any(found.full_name == resource.full_name for found in catalogue.find(name))
    except UnknownResourceError:
        if not catalogue.may_come(name):
            raise
        return False
