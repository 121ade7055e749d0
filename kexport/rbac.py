"""The least permissions that a configuration needs, as manifests: list and watch, and nothing else.

Where namespaces are named one by one, a Role in each of them; for everything else (all namespaces, patterns,
cluster-scoped resources) a ClusterRole. Pure: what the names stand for was asked before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from kexport.change import Resource, Stream
from kexport.discovery import Catalogue
from kexport.errors import ConfigError
from kexport.tables import ResourceConfig

VERBS = ["list", "watch"]
# deployments.v1.apps: only a server can tell a version from the first word of a group's name.
_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?(\.|$)")
API_GROUP = "rbac.authorization.k8s.io"
# Whether namespaced, of the core group, whose names have no dot: what `--offline` can know without asking.
_CORE = {
    **dict.fromkeys(("namespaces", "nodes", "persistentvolumes"), False),
    **dict.fromkeys(
        (
            "configmaps", "endpoints", "events", "limitranges", "persistentvolumeclaims", "pods",
            "podtemplates", "replicationcontrollers", "resourcequotas", "secrets", "serviceaccounts",
            "services",
        ),
        True,
    ),
}  # fmt: skip


class Grantee(NamedTuple):
    """Who gets the permissions: a service account; `role` is the name of the roles and their bindings."""

    role: str
    namespace: str
    service_account: str


def manifests(streams: Iterable[Stream], grantee: Grantee, *, identity: bool) -> list[dict[str, Any]]:
    """Roles and bindings, ready to be applied; `identity`: kube-system's uid may be read, too."""
    wanted: dict[str | None, set[Resource]] = {}
    for stream in streams:
        wanted.setdefault(stream.namespace, set()).add(stream.resource)
    everywhere = wanted.pop(None, set())
    rules = _rules(everywhere)
    if identity:
        rules.append(
            {
                "apiGroups": [""],
                "resources": ["namespaces"],
                "resourceNames": ["kube-system"],
                "verbs": ["get"],
            }
        )
    found = _role(rules, grantee, namespace=None) if rules else []
    for namespace, resources in sorted(wanted.items(), key=lambda item: item[0] or ""):
        if needed := resources - everywhere:
            found += _role(_rules(needed), grantee, namespace=namespace)
    return found


def _rules(resources: Iterable[Resource]) -> list[dict[str, Any]]:
    groups: dict[str, list[str]] = {}
    for resource in resources:
        groups.setdefault(resource.group, []).append(resource.name)
    return [
        {"apiGroups": [group], "resources": sorted(names), "verbs": VERBS[:]}
        for group, names in sorted(groups.items())
    ]


def _role(rules: list[dict[str, Any]], grantee: Grantee, *, namespace: str | None) -> list[dict[str, Any]]:
    """A role with these rules, and its binding."""
    kind = "Role" if namespace else "ClusterRole"
    metadata = {"name": grantee.role, "namespace": namespace} if namespace else {"name": grantee.role}
    subject = {
        "kind": "ServiceAccount",
        "name": grantee.service_account,
        "namespace": grantee.namespace,
    }
    role = {"apiVersion": f"{API_GROUP}/v1", "kind": kind, "metadata": metadata, "rules": rules}
    binding = {
        "apiVersion": f"{API_GROUP}/v1",
        "kind": f"{kind}Binding",
        "metadata": dict(metadata),
        "roleRef": {"apiGroup": API_GROUP, "kind": kind, "name": grantee.role},
        "subjects": [subject],
    }
    return [role, binding]


def assume(configs: Iterable[ResourceConfig]) -> Catalogue:
    """A catalogue of just what the configuration names, taken at its word, for when no server can be asked.

    Raises ConfigError for a name that isn't written in full.
    """
    return Catalogue(tuple(_assumed(config, number) for number, config in enumerate(configs)))


def _assumed(config: ResourceConfig, number: int) -> Resource:
    name, _, group = config.resource.partition(".")
    if "*" in config.resource or _VERSION.match(group) or (not group and name not in _CORE):
        raise ConfigError(
            f"resources[{number}].resource: {config.resource!r} needs a server that knows it;"
            " write it in full (pods, deployments.apps), or leave --offline out"
        )
    namespaced = True if group else _CORE[name]
    return Resource(group=group, version="", name=name, kind=name, namespaced=namespaced, verbs=tuple(VERBS))
