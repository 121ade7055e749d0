"""What the server serves, as `kubectl api-resources` shows it, and how the names people write resolve to it.

Aggregated discovery (two requests) where the server has it, a request a group where not. A group that is down
is left out of the answer and named; it is never taken for a resource that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from kexport.change import Resource
from kexport.errors import ApiError, ConfigError, ProtocolError, UnknownResourceError
from kexport.kube import Client
from kexport.settings import nearest

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"

# The same stored objects under a second name: watching both would report every change twice.
SAME_AS = {"events.events.k8s.io": "events"}


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


async def discover(client: Client) -> Catalogue:
    """Ask the server; raises ApiError or ConnectionLostError when it gives no answer at all."""
    core, groups = await asyncio.gather(
        client.get("/api", accept=AGGREGATED), client.get("/apis", accept=AGGREGATED)
    )
    documents = [_document("/api", core), _document("/apis", groups)]
    if all(document.get("kind") == "APIGroupDiscoveryList" for document in documents):
        return _aggregated([item for document in documents for item in document.get("items", [])])
    return await _legacy(client, *documents)


def _aggregated(groups: Iterable[dict[str, Any]]) -> Catalogue:
    resources: list[Resource] = []
    unavailable = []
    for group in groups:
        name = group.get("metadata", {}).get("name", "")
        for version in group.get("versions", []):
            if version.get("freshness") == "Stale":
                unavailable.append(f"{name}/{version['version']}")
                continue
            resources += [
                Resource(
                    group=name,
                    version=version["version"],
                    name=each["resource"],
                    kind=each.get("responseKind", {}).get("kind", ""),
                    namespaced=each.get("scope") == "Namespaced",
                    verbs=tuple(each.get("verbs", ())),
                    singular=each.get("singularResource", ""),
                    short_names=tuple(each.get("shortNames", ())),
                    categories=tuple(each.get("categories", ())),
                )
                for each in version.get("resources", [])
            ]
    return _catalogue(resources, unavailable)


def _document(path: str, body: bytes) -> dict[str, Any]:
    """The JSON object that `body` must be; raises ProtocolError, for a login page for example."""
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"{path} did not answer as an API server does: {error}") from error
    return document


async def _legacy(client: Client, core: dict[str, Any], groups: dict[str, Any]) -> Catalogue:
    wanted = [("", version) for version in core.get("versions", ["v1"])]
    for group in groups.get("groups", []):
        versions = [version["version"] for version in group["versions"]]
        preferred = group.get("preferredVersion", {}).get("version", "")
        wanted += [(group["name"], version) for version in sorted(versions, key=lambda v: v != preferred)]
    answers = await asyncio.gather(*(_group_version(client, *each) for each in wanted))
    unavailable = [f"{g}/{v}" for (g, v), answer in zip(wanted, answers, strict=True) if answer is None]
    return _catalogue([resource for answer in answers if answer for resource in answer], unavailable)


async def _group_version(client: Client, group: str, version: str) -> list[Resource] | None:
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        document = _document(path, await client.get(path))
    except (ApiError, ProtocolError):
        return None
    return [
        Resource(
            group=group,
            version=version,
            name=each["name"],
            kind=each["kind"],
            namespaced=each["namespaced"],
            verbs=tuple(each.get("verbs", ())),
            singular=each.get("singularName", ""),
            short_names=tuple(each.get("shortNames", ())),
            categories=tuple(each.get("categories", ())),
        )
        for each in document.get("resources", [])
        if "/" not in each["name"]
    ]


def _catalogue(resources: list[Resource], unavailable: Iterable[str]) -> Catalogue:
    """Keep the first version of each, which is the preferred one that has it."""
    first: dict[str, Resource] = {}
    for resource in resources:
        first.setdefault(resource.full_name, resource)
    return Catalogue(tuple(first.values()), tuple(unavailable), tuple(resources))
