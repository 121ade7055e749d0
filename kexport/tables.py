"""The tables of config.toml as frozen structs: every key with its unit, its default and what it means.

`kexport schema`, the documents and the error messages are made from these.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


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
    ] = 100_000
    recover_max_seconds: Annotated[
        float, Meta(ge=0, description="How long a stream's gap may be read back from history.")
    ] = 240.0
    recover_scan_revisions: Annotated[
        int,
        Meta(ge=0, description="Most versions of a gap that are looked at for short-lived objects."),
    ] = 50_000
    rediscover_seconds: Annotated[
        float, Meta(gt=0, description="How often the server is asked what it serves, for new resources.")
    ] = 60.0
    audit_seconds: Annotated[
        float, Meta(ge=0, description="How often a stream's index is compared with the cluster; 0: never.")
    ] = 21_600.0
    on_new_cluster: Annotated[
        Literal["stop", "restart"],
        Meta(description="When the address leads to another cluster: stop, or forget this one, and go on."),
    ] = "stop"


class JournalConfig(_Table, frozen=True):
    path: Annotated[
        str,
        Meta(
            description="Directory of the journal, below the working directory if relative;"
            " ':memory:' keeps nothing."
        ),
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
        float,
        Meta(
            ge=0,
            le=0.02,
            description="Under load, how long a change waits for others to be committed with.",
        ),
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
    deletions: Annotated[
        Literal["emit", "skip"],
        Meta(description="Whether deletions become events; skip suits Events, which only expire."),
    ] = "emit"
    diff: Annotated[
        bool | Literal["patch"],
        Meta(
            description="true: a change also says what was before, what changed (RFC 6902) and who did it;"
            ' "patch": without what was before.'
        ),
    ] = False
    unchanged: Annotated[
        Literal["emit", "drop"],
        Meta(
            description="With diff: whether modifications of nothing but heartbeats and `ignore` are events."
        ),
    ] = "emit"
    ignore: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="With unchanged = drop: fields whose changes alone are none: status.hosts[*].seen."),
    ] = ()


class TransformConfig(_Table, frozen=True):
    resources: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="Resources as in [[resources]], or patterns: *.apps, *."),
    ]
    redact: Annotated[
        tuple[Literal["env", "last-applied"], ...],
        Meta(description="Presets of `hash`: env values of pods and pod templates, kubectl's copy."),
    ] = ()
    hash: Annotated[
        tuple[str, ...],
        Meta(description="Fields whose value is replaced by its keyed hash: spec.users[*].password."),
    ] = ()
    drop: Annotated[
        tuple[str, ...],
        Meta(description="Fields to leave out: status, metadata.annotations['example.com/*']."),
    ] = ()
    keep: Annotated[
        tuple[str, ...],
        Meta(description="All that is kept, beside apiVersion, kind, name, namespace, uid, resourceVersion."),
    ] = ()
    rename: Annotated[
        dict[str, str], Meta(description="Fields to move, from path to path, in this order.")
    ] = msgspec.field(default_factory=dict)


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
    origins: Annotated[
        tuple[Literal["watch", "snapshot", "recovered", "resync"], ...],
        Meta(description="How the change came to be known; default: in any way."),
    ] = ()
    labels: Annotated[
        str, Meta(description="As kubectl -l takes it; applied to the event's object, not by the server.")
    ] = ""
    where: Annotated[
        str,
        Meta(description="A CEL condition over object, previous and event; needs the extra kexport[cel]."),
    ] = ""
    sample: Annotated[
        float, Meta(gt=0, le=1, description="Share of the events that pass, chosen by a hash of their id.")
    ] = 1.0
    max_events_per_second: Annotated[
        float, Meta(ge=0, description="What is observed faster is lost to the route's sinks; 0: no limit.")
    ] = 0.0
    burst_events: Annotated[
        int, Meta(ge=0, description="Events that may come at once under a limit; 0: one second's worth.")
    ] = 0


class HttpConfig(_Table, frozen=True):
    listen: Annotated[
        str,
        Meta(
            pattern=r"^(|[^:\[\]]+:[0-9]{1,5}|\[[0-9a-fA-F:.]+\]:[0-9]{1,5})$",
            description='Address and port of metrics, health and the status page; "": none.',
        ),
    ] = "127.0.0.1:9273"
    ready_lag_seconds: Annotated[
        float, Meta(gt=0, description="A sink, or an interrupted stream, that is longer behind is not ready.")
    ] = 300.0
    ready_ignore_forbidden: Annotated[
        bool, Meta(description="Whether /readyz passes while the API server forbids a stream.")
    ] = False


class TelemetryConfig(_Table, frozen=True):
    otlp_endpoint: Annotated[
        str,
        Meta(
            pattern=r"^(|https?://[^/?#@\s]+([/?][^#@\s]*)?)$",
            description="URL that gets the metrics over OTLP/HTTP, such as http://collector:4318; /v1/metrics"
            ' is added when it has no path. "": none. Needs the extra otlp-metrics.',
        ),
    ] = ""
    otlp_headers: Annotated[
        dict[
            Annotated[str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")],
            Annotated[str, Meta(pattern=r"^[\t\x20-\x7e]*$")],
        ],
        Meta(description="Headers of every request, such as authorization; secrets best as ${NAME}."),
    ] = msgspec.field(default_factory=dict)
    otlp_ca_file: Annotated[
        str, Meta(description="PEM file of the authorities that may sign the server; empty: the system's.")
    ] = ""
    interval_seconds: Annotated[float, Meta(ge=1, description="How often the metrics are read and sent.")] = (
        60.0
    )
    timeout_seconds: Annotated[
        float, Meta(gt=0, description="A request without an answer for so long has failed.")
    ] = 10.0
    resource_attributes: Annotated[
        dict[str, str],
        Meta(
            description="Resource attributes, over OTEL_RESOURCE_ATTRIBUTES and the defaults service.name,"
            " service.version, service.instance.id (the host's name) and k8s.cluster.name."
        ),
    ] = msgspec.field(default_factory=dict)


class RetryConfig(_Table, frozen=True):
    min_seconds: Annotated[float, Meta(gt=0, description="First wait after a failed write.")] = 0.5
    max_seconds: Annotated[float, Meta(gt=0, description="Longest wait between two tries.")] = 60.0


class Root(_Table, frozen=True):
    """The whole file; `sinks` stays untyped here, since each type has keys of its own."""

    resources: Annotated[tuple[ResourceConfig, ...], Meta(min_length=1, description="What to watch.")]
    sinks: Annotated[dict[str, dict[str, Any]], Meta(min_length=1, description="Where to write.")]
    cluster: ClusterConfig = ClusterConfig()
    journal: JournalConfig = JournalConfig()
    http: HttpConfig = HttpConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    transforms: tuple[TransformConfig, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
    shutdown_seconds: Annotated[
        float, Meta(ge=0, description="How long a stopping process goes on delivering what it has.")
    ] = 20.0
    reload_seconds: Annotated[
        float, Meta(ge=0, description="How often this file is looked at for changes; 0: only on SIGHUP.")
    ] = 10.0
