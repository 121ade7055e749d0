"""The resources that the fake server serves, and how a CustomResourceDefinition becomes one of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
NAME_FIELDS = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, kw_only=True)
class Resource:
    group: str
    version: str
    plural: str
    kind: str
    singular: str = ""
    list_kind: str = ""
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    has_status: bool = False
    has_generation: bool = False
    cached: bool = True
    """False for `events`, which the API server reads from etcd without a watch cache."""
    custom: bool = False
    aggregated: bool = False
    """Whether a server of its own, behind the aggregation layer, serves it."""
    versioned: bool = True
    """False: an aggregated API whose objects and lists carry no resourceVersion, as metrics have none."""
    field_labels: tuple[str, ...] = ()
    """What a fieldSelector may name beside metadata.name and metadata.namespace."""

    @property
    def name(self) -> str:
        """Say which resource it is in all versions, as error messages write it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def listing(self) -> str:
        return self.list_kind or self.kind + "List"

    def key(self, namespace: str, name: str) -> str:
        return f"{namespace}/{name}" if self.namespaced else name

    def prefix(self, namespace: str) -> str:
        return f"{namespace}/" if self.namespaced and namespace else ""


def _core(plural: str, kind: str, **more: Any) -> Resource:
    return Resource(group="", version="v1", plural=plural, kind=kind, singular=kind.lower(), **more)


def _grouped(api_version: str, plural: str, kind: str, **more: Any) -> Resource:
    group, version = api_version.split("/")
    return Resource(group=group, version=version, plural=plural, kind=kind, singular=kind.lower(), **more)


_POD_FIELDS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
)
_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_SPEC = {"has_status": True, "has_generation": True}
_ALL = ("all",)

CRDS = _grouped(
    "apiextensions.k8s.io/v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    **_SPEC,
)
NAMESPACES = _core(
    "namespaces",
    "Namespace",
    namespaced=False,
    short_names=("ns",),
    has_status=True,
    verbs=tuple(verb for verb in VERBS if verb != "deletecollection"),
    field_labels=("status.phase", "name"),
)
PODS = _core(
    "pods",
    "Pod",
    short_names=("po",),
    categories=_ALL,
    field_labels=_POD_FIELDS,
    has_status=True,
    has_generation=True,
)

BUILT_IN: tuple[Resource, ...] = (
    _core("configmaps", "ConfigMap", short_names=("cm",)),
    _core("events", "Event", short_names=("ev",), cached=False, field_labels=_EVENT_FIELDS),
    NAMESPACES,
    _core(
        "nodes",
        "Node",
        namespaced=False,
        short_names=("no",),
        has_status=True,
        field_labels=("spec.unschedulable",),
    ),
    PODS,
    _core("secrets", "Secret", field_labels=("type",)),
    _core("serviceaccounts", "ServiceAccount", short_names=("sa",)),
    _core(
        "services",
        "Service",
        short_names=("svc",),
        categories=_ALL,
        has_status=True,
        field_labels=("spec.clusterIP", "spec.type"),
    ),
    _grouped("apps/v1", "deployments", "Deployment", short_names=("deploy",), categories=_ALL, **_SPEC),
    _grouped(
        "apps/v1",
        "replicasets",
        "ReplicaSet",
        short_names=("rs",),
        categories=_ALL,
        field_labels=("status.replicas",),
        **_SPEC,
    ),
    _grouped("batch/v1", "jobs", "Job", categories=_ALL, field_labels=("status.successful",), **_SPEC),
    _grouped("batch/v1", "cronjobs", "CronJob", short_names=("cj",), categories=_ALL, **_SPEC),
    _grouped("coordination.k8s.io/v1", "leases", "Lease"),
    CRDS,
)


def custom_resources(definition: dict[str, Any]) -> Iterator[Resource]:
    """Yield what a CustomResourceDefinition serves: one resource for each served version, storage shared."""
    spec = definition["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if not version.get("served", True):
            continue
        yield Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            singular=names.get("singular") or names["kind"].lower(),
            list_kind=names.get("listKind") or names["kind"] + "List",
            namespaced=spec.get("scope", "Namespaced") == "Namespaced",
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            has_status="status" in version.get("subresources", {}),
            has_generation=True,
            verbs=("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"),
            custom=True,
            field_labels=tuple(
                field["jsonPath"].lstrip(".") for field in version.get("selectableFields", ())
            ),
        )
