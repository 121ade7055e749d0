"""Discovery: what the server says about the groups, versions and resources that it serves.

Two forms exist: everything in two documents (aggregated, since 1.26), and one document for each group
version.
"""

import re
from collections.abc import Collection
from typing import Any

from kexport.testing.kinds import Resource

Object = dict[str, Any]

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_STATUS_VERBS = ["get", "patch", "update"]
# What real servers also list, and what no exporter can watch.
_UNWATCHABLE = (
    Resource(
        group="", version="v1", plural="bindings", kind="Binding", singular="binding", verbs=("create",)
    ),
    Resource(
        group="",
        version="v1",
        plural="componentstatuses",
        kind="ComponentStatus",
        singular="componentstatus",
        namespaced=False,
        verbs=("get", "list"),
        short_names=("cs",),
    ),
    Resource(
        group="authorization.k8s.io",
        version="v1",
        plural="selfsubjectaccessreviews",
        kind="SelfSubjectAccessReview",
        singular="selfsubjectaccessreview",
        namespaced=False,
        verbs=("create",),
    ),
)


class Discovery:
    """The documents for one moment's list of resources."""

    def __init__(self, resources: list[Resource], unavailable: Collection[str] = ()) -> None:
        self._unavailable = unavailable
        self._groups: dict[str, dict[str, list[Resource]]] = {}
        for resource in sorted([*resources, *_UNWATCHABLE], key=lambda resource: resource.plural):
            versions = self._groups.setdefault(resource.group, {})
            versions.setdefault(resource.version, []).append(resource)
        for group, versions in self._groups.items():
            ranked = sorted(versions, key=_rank, reverse=True)
            self._groups[group] = {version: versions[version] for version in ranked}

    def builds_in(self, group: str) -> bool:
        """Tell whether a group is the server's own, which words "not found" otherwise."""
        return any(
            not resource.custom and not resource.aggregated
            for resources in self._groups.get(group, {}).values()
            for resource in resources
        )

    def aggregated(self, root: str) -> Object:
        groups = [""] if root == "api" else sorted(group for group in self._groups if group)
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": [self._aggregated_group(group) for group in groups],
        }

    def document(self, segments: list[str], server: str) -> Object | None:
        """Return what is at a path of the old form; None if nothing is."""
        match segments:
            case ["api"]:
                addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]
                return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
            case ["apis"]:
                groups = [self._group(group) for group in self._groups if group]
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case ["apis", group] if group in self._groups:
                return {"kind": "APIGroup", "apiVersion": "v1"} | self._group(group)
            case ["api", version]:
                return self._resource_list("", version)
            case ["apis", group, version]:
                return self._resource_list(group, version)
        return None

    def _aggregated_group(self, group: str) -> Object:
        versions = [
            {
                "version": version,
                "resources": [_aggregated(resource) for resource in resources],
                "freshness": "Stale" if group in self._unavailable else "Current",
            }
            for version, resources in self._groups[group].items()
        ]
        return {"metadata": {"name": group} if group else {}, "versions": versions}

    def _group(self, group: str) -> Object:
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version} for version in self._groups[group]
        ]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _resource_list(self, group: str, version: str) -> Object | None:
        resources = self._groups.get(group, {}).get(version)
        if resources is None:
            return None
        described = [entry for resource in resources for entry in _legacy(resource)]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": described,
        }


def _rank(version: str) -> tuple[int, int, int]:
    """Order versions as the server prefers them: v2 before v1, v1 before v1beta1, beta before alpha."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return (-1, 0, 0)
    stage = {"alpha": 0, "beta": 1, None: 2}[match[2]]
    return (stage, int(match[1]), int(match[3] or 0))


def _names(resource: Resource) -> Object:
    names: Object = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
    return {key: value for key, value in names.items() if value}


def _aggregated(resource: Resource) -> Object:
    # Built-in types leave group and version of the kind to the entry around them; custom ones repeat them.
    group, version = (resource.group, resource.version) if resource.custom else ("", "")
    kind = {"group": group, "version": version, "kind": resource.kind}
    entry: Object = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    } | _names(resource)
    if resource.has_status:
        entry["subresources"] = [{"subresource": "status", "responseKind": kind, "verbs": _STATUS_VERBS}]
    return entry


def _legacy(resource: Resource) -> list[Object]:
    common: Object = {"namespaced": resource.namespaced, "kind": resource.kind}
    whole: Object = {
        "name": resource.plural,
        "singularName": resource.singular,
        "verbs": list(resource.verbs),
    }
    entries = [whole | common | _names(resource)]
    if resource.has_status:
        status: Object = {"name": f"{resource.plural}/status", "singularName": "", "verbs": _STATUS_VERBS}
        entries.append(status | common)
    return entries
