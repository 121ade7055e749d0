"""What the server serves, as `kubectl api-resources` shows it, and how the names people write resolve to it.

Aggregated discovery (two requests) where the server has it, a request a group where not. A group that is down
is left out of the answer and named; it is never taken for a resource that is gone. What is no discovery, and
what is only half of one, is an error and no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar

import msgspec

from kexport.change import Resource
from kexport.errors import ApiError, ConfigError, ProtocolError, UnknownResourceError
from kexport.kube import JSON, Client
from kexport.lines import UNREADABLE
from kexport.settings import nearest

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"

# The same stored objects under a second name: watching both would report every change twice.
SAME_AS = {"events.events.k8s.io": "events"}

# Go writes a list without members as null, too. Of resources and groups null is not taken: all would be gone.
_Words = tuple[str, ...] | None


class Catalogue(NamedTuple):
    """The served resources, each at its group's preferred version, and the groups that did not answer."""

    resources: tuple[Resource, ...]
    unavailable: tuple[str, ...] = ()
    versions: tuple[Resource, ...] = ()

    def find(self, name: str) -> list[Resource]:
        """What `name` stands for, written as for kubectl; `*` and `*.group` only name what can be watched.

        Raises UnknownResourceError, and ConfigError for a named one without list and watch.
        """
        if "*" in name:
            return self._find_all(name)
        found = self._find_one(name)
        if found is None:
            raise UnknownResourceError(self._unknown(name))
        if not found.watchable:
            raise ConfigError(
                f"resource {name!r} cannot be watched: the server only offers {', '.join(found.verbs)} on it"
            )
        return [found]

    def may_come(self, name: str) -> bool:
        """Whether an unknown name may mean what is installed later: with a group, or a group is down now."""
        return "." in name or "*" in name or bool(self.unavailable)

    def lacks(self, resource: Resource) -> bool:
        """Whether the answer says that this resource is not served; a group that is down says nothing."""
        down = any(each.partition("/")[0] == resource.group for each in self.unavailable)
        return not down and all(each.full_name != resource.full_name for each in self.resources)

    def _find_all(self, pattern: str) -> list[Resource]:
        found = [
            resource
            for resource in self.resources
            if resource.watchable
            and resource.full_name not in SAME_AS
            and (pattern == "*" or fnmatchcase(resource.full_name, pattern))
        ]
        if not found:
            raise UnknownResourceError(f"resource pattern {pattern!r} matches nothing that can be watched")
        return found

    def _find_one(self, name: str) -> Resource | None:
        word, _, group = name.lower().partition(".")
        for resource in self.resources:  # the order is kubectl's: core first, then as the server ranks groups
            if _called(resource, word) and (not group or resource.group == group):
                return resource
        version, _, group = group.partition(".")
        for resource in self.versions:  # deployments.v1.apps, pods.v1.
            if _called(resource, word) and (resource.version, resource.group) == (version, group):
                return resource
        return None

    def _unknown(self, name: str) -> str:
        names = [resource.full_name for resource in self.resources]
        names += [word for resource in self.resources for word in (resource.name, *resource.short_names)]
        hint = nearest(name.lower(), names)
        down = f"; groups that did not answer: {', '.join(self.unavailable)}" if self.unavailable else ""
        return f"unknown resource {name!r}{hint}{down}; `kexport resources` lists what the server has"


def _called(resource: Resource, word: str) -> bool:
    names = (resource.name, resource.singular, resource.kind.lower(), *resource.short_names)
    return word in names


class _Named(msgspec.Struct):
    name: str = ""


class _Kind(msgspec.Struct):
    kind: str = ""


class _Version(msgspec.Struct):
    version: str


class _Versions(msgspec.Struct, tag_field="kind", tag="APIVersions"):
    versions: list[str]


class _Group(msgspec.Struct):
    name: str
    versions: list[_Version]
    preferredVersion: _Version | None = None  # noqa: N815


class _Groups(msgspec.Struct, tag_field="kind", tag="APIGroupList"):
    groups: list[_Group]


class _Listed(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool
    verbs: _Words = ()
    singularName: str = ""  # noqa: N815
    shortNames: _Words = ()  # noqa: N815
    categories: _Words = ()


class _ResourceList(msgspec.Struct, tag_field="kind", tag="APIResourceList"):
    resources: list[_Listed]


class _Discovered(msgspec.Struct):
    resource: str
    scope: str = ""
    responseKind: _Kind | None = None  # noqa: N815
    verbs: _Words = ()
    singularResource: str = ""  # noqa: N815
    shortNames: _Words = ()  # noqa: N815
    categories: _Words = ()


class _VersionDiscovery(msgspec.Struct):
    version: str
    resources: list[_Discovered] = []
    freshness: str = ""


class _GroupDiscovery(msgspec.Struct):
    metadata: _Named
    versions: list[_VersionDiscovery] = []


class _Discovery(msgspec.Struct, tag_field="kind", tag="APIGroupDiscoveryList"):
    items: list[_GroupDiscovery]


_core_root = msgspec.json.Decoder(_Versions | _Discovery)
_groups_root = msgspec.json.Decoder(_Groups | _Discovery)
_resource_list = msgspec.json.Decoder(_ResourceList)


async def discover(client: Client) -> Catalogue:
    """Ask the server; raises ApiError, ConnectionLostError or ProtocolError when it gives no whole answer."""
    api, apis = await _roots(client, AGGREGATED)
    if isinstance(api, _Discovery) != isinstance(apis, _Discovery):
        # Two replicas answered, of which one is too old for the aggregated form: all know the other one.
        api, apis = await _roots(client, JSON)
    match api, apis:
        case _Discovery(), _Discovery():
            return _aggregated([*api.items, *apis.items])
        case _Versions(), _Groups():
            return await _legacy(client, api, apis)
    raise ProtocolError("/api and /apis answered in two forms, so neither says what is served")


async def _roots(client: Client, accept: str) -> tuple[_Versions | _Discovery, _Groups | _Discovery]:
    core, groups = await asyncio.gather(client.get("/api", accept=accept), client.get("/apis", accept=accept))
    return _document("/api", core, _core_root), _document("/apis", groups, _groups_root)


_Decoded = TypeVar("_Decoded")


def _document(path: str, body: bytes, decoder: msgspec.json.Decoder[_Decoded]) -> _Decoded:
    """The document that `body` must be; raises ProtocolError, for a login page for example."""
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise ProtocolError(f"{path} did not answer as an API server does: {error}") from error


def _aggregated(groups: Iterable[_GroupDiscovery]) -> Catalogue:
    resources: list[Resource] = []
    unavailable = []
    for group in groups:
        name = group.metadata.name
        for version in group.versions:
            if version.freshness == "Stale":
                unavailable.append(f"{name}/{version.version}")
                continue
            resources += [
                Resource(
                    group=name,
                    version=version.version,
                    name=each.resource,
                    kind=each.responseKind.kind if each.responseKind else "",
                    namespaced=each.scope == "Namespaced",
                    verbs=each.verbs or (),
                    singular=each.singularResource,
                    short_names=each.shortNames or (),
                    categories=each.categories or (),
                )
                for each in version.resources
            ]
    return _catalogue(resources, unavailable)


async def _legacy(client: Client, core: _Versions, groups: _Groups) -> Catalogue:
    wanted = [("", version) for version in core.versions]
    for group in groups.groups:
        preferred = group.preferredVersion.version if group.preferredVersion else ""
        versions = [each.version for each in group.versions]
        wanted += [(group.name, version) for version in sorted(versions, key=lambda v: v != preferred)]
    answers = await asyncio.gather(*(_group_version(client, *each) for each in wanted))
    unavailable = [f"{g}/{v}" for (g, v), answer in zip(wanted, answers, strict=True) if answer is None]
    return _catalogue([resource for answer in answers if answer for resource in answer], unavailable)


async def _group_version(client: Client, group: str, version: str) -> list[Resource] | None:
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        document = _document(path, await client.get(path), _resource_list)
    except (ApiError, ProtocolError):
        return None
    return [
        Resource(
            group=group,
            version=version,
            name=each.name,
            kind=each.kind,
            namespaced=each.namespaced,
            verbs=each.verbs or (),
            singular=each.singularName,
            short_names=each.shortNames or (),
            categories=each.categories or (),
        )
        for each in document.resources
        if "/" not in each.name
    ]


def _catalogue(resources: list[Resource], unavailable: Iterable[str]) -> Catalogue:
    """Keep the first version of each, which is the preferred one that has it."""
    first: dict[str, Resource] = {}
    for resource in resources:
        first.setdefault(resource.full_name, resource)
    return Catalogue(tuple(first.values()), tuple(unavailable), tuple(resources))
