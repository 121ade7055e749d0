"""Objects as an API server would send them, in as many different states as a compressor must not foresee.

A pool of bodies is made once from a seed. Pods belong to 200 Deployments in turn, each with labels, image,
environment, checksums and probes of its own; every body has its own node, addresses, ids and times. A line
is a body of the pool with the object's name and uid, and with a new resourceVersion and time. The pool is
larger than a journal's chunk and any compressor's window: nothing repeats within their reach but what
repeats in a cluster.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

BASE = 1_000_000_000
"""The resourceVersion of every first listing; change number N has BASE + 1 + N."""

UNSENT = b"0" * 19
SENT = b'"bench/sent":"'
_SLOT = re.compile(rb"@(NAME|UID|VERSION|SENT|TIME)@")
_SLOTS = (b"NAME", b"UID", b"VERSION", b"SENT", b"TIME")
_VARIABLES = ("RELEASE", "REGION", "TRACE", "FLAGS", "TENANT")
_METHODS = ("GET", "POST", "DELETE")
_POOL = {"pods": 5000, "events": 12_000, "widgets": 400, "configmaps": 5000, "secrets": 5000}


class Shape:
    """Objects of one kind: `objects` names, each with a uid; `head` has their kind and apiVersion."""

    def __init__(self, kind: str, *, objects: int, head: Mapping[str, str]) -> None:
        chance = random.Random(f"{kind}-1")
        self._head = dict(head)
        make = _MAKERS[kind]
        self._pool = [self._split(make(chance, number)) for number in range(_POOL[kind])]
        self._objects = [_identity(number) for number in range(objects)]

    def _split(self, body: dict[str, Any]) -> tuple[list[bytes], list[int]]:
        pieces = _SLOT.split(json.dumps(self._head | body, separators=(",", ":")).encode())
        return pieces, [_SLOTS.index(slot) for slot in pieces[1::2]]

    def object(self, number: int, version: int, *, state: int, sent: bytes = UNSENT) -> bytes:
        """The JSON of object `number`; `state` chooses the body."""
        pieces, slots = self._pool[state % len(self._pool)]
        name, uid = self._objects[number % len(self._objects)]
        at = b"2026-11-24T10:%02d:%02dZ" % (state // 60 % 60, state % 60)
        values = (name, uid, b"%d" % version, sent, at)
        line = pieces.copy()
        line[1::2] = [values[slot] for slot in slots]
        return b"".join(line)

    def change(self, number: int, *, stamped: bool = False, type_: bytes = b"MODIFIED") -> bytes:
        """The watch line of change `number`: the objects take turns."""
        sent = b"%019d" % time.time_ns() if stamped else UNSENT
        body = self.object(number, BASE + 1 + number, state=number, sent=sent)
        return b'{"type":"%b","object":%b}\n' % (type_, body)

    def listed(self, number: int) -> bytes:
        """The object as the first listing has it."""
        return self.object(number, BASE - len(self._objects) + number, state=number * 7)


def _identity(number: int) -> tuple[bytes, bytes]:
    """Name and uid: spread like random ones, so that the index gets them in no order."""
    spread = number * 2_654_435_761 % (1 << 32)
    mixed = (number + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
    uid = b"%08x-%04x-4%03x-9%03x-%012x" % (
        spread, mixed >> 48, mixed >> 36 & 0xFFF, mixed >> 24 & 0xFFF, mixed & 0xFFFFFFFFFFFF,
    )  # fmt: skip
    return b"app-%08x-%05x" % (spread, number), uid


# -- the bodies -------------------------------------------------------------------------------------------


def _hex(chance: random.Random, digits: int) -> str:
    return f"{chance.getrandbits(4 * digits):0{digits}x}"


def _time(chance: random.Random) -> str:
    return f"2026-11-{chance.randint(1, 24):02d}T{chance.randint(0, 23):02d}:{chance.randint(0, 59):02d}:17Z"


def _address(chance: random.Random) -> str:
    return f"10.{chance.randint(0, 255)}.{chance.randint(0, 255)}.{chance.randint(1, 254)}"


def _metadata(chance: random.Random, **more: Any) -> dict[str, Any]:
    return {
        "name": "@NAME@",
        "namespace": "shop",
        "uid": "@UID@",
        "resourceVersion": "@VERSION@",
        "creationTimestamp": _time(chance),
        **more,
        "annotations": {"bench/sent": "@SENT@", **more.get("annotations", {})},
    }


def _managed(chance: random.Random, manager: str, paths: list[str], **more: str) -> dict[str, Any]:
    """One entry of managedFields: who owns which of these fields."""
    fields: dict[str, Any] = {}
    for path in paths:
        place = fields
        for name in path.split("/"):
            place = place.setdefault(f"f:{name}", {})
    return {
        "manager": manager, "operation": "Update", "apiVersion": "v1", "time": _time(chance),
        "fieldsType": "FieldsV1", "fieldsV1": fields, **more,
    }  # fmt: skip


def _pod(chance: random.Random, number: int) -> dict[str, Any]:
    app = f"service-{number % 200}"
    shared = random.Random(app)  # what all pods of a Deployment have in common
    template, node = _hex(shared, 10), f"node-{chance.randint(1, 300)}.{_hex(chance, 4)}.internal"
    metadata = _metadata(
        chance,
        generateName=f"{app}-{template}-",
        generation=1,
        labels={"app.kubernetes.io/name": app, "pod-template-hash": template, "team": _hex(shared, 4)},
        annotations={"checksum/config": _hex(shared, 64), "prometheus.io/port": "9090"},
        ownerReferences=[
            {
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-{template}",
                "uid": _hex(shared, 32), "controller": True, "blockOwnerDeletion": True,
            }
        ],
        managedFields=_pod_owners(chance),
    )  # fmt: skip
    image = f"images.example.com/shop/{app}@sha256:{_hex(shared, 64)}"
    token = f"kube-api-access-{_hex(chance, 5)}"
    spec = {**_pod_spec(shared, app, image, token), "nodeName": node}
    return {"metadata": metadata, "spec": spec, "status": _pod_status(chance, image)}


def _pod_owners(chance: random.Random) -> list[dict[str, Any]]:
    spec = [
        "containers",
        "dnsPolicy",
        "enableServiceLinks",
        "restartPolicy",
        "schedulerName",
        "securityContext",
    ]
    container = [
        "image",
        "imagePullPolicy",
        "livenessProbe/httpGet/path",
        "livenessProbe/periodSeconds",
        "name",
    ]
    container += [f'env/k:{{"name":"{name}"}}/{part}' for name in _VARIABLES for part in ("name", "value")]
    container += [
        "readinessProbe/httpGet/path",
        "readinessProbe/periodSeconds",
        "resources/limits/cpu",
        "ports",
    ]
    status = ["conditions", "containerStatuses", "hostIP", "phase", "podIP", "podIPs", "startTime"]
    return [
        _managed(
            chance,
            "kube-controller-manager",
            ["metadata/generateName", "metadata/labels/app.kubernetes.io~1name", "metadata/ownerReferences"]
            + [f"spec/{name}" for name in spec]
            + [f'spec/containers/k:{{"name":"main"}}/{name}' for name in container],
        ),
        _managed(chance, "kubelet", [f"status/{name}" for name in status], subresource="status"),
    ]


def _pod_spec(chance: random.Random, app: str, image: str, token: str) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthy", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1}
    environment = [{"name": name, "value": _hex(chance, 24)} for name in _VARIABLES]
    container = {
        "name": "main",
        "image": image,
        "env": [*environment, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {
            "limits": {"cpu": f"{chance.randint(1, 40) * 100}m", "memory": f"{chance.randint(64, 4096)}Mi"},
            "requests": {"cpu": f"{chance.randint(1, 20) * 50}m", "memory": f"{chance.randint(64, 2048)}Mi"},
        },
        "volumeMounts": [{"name": token, "readOnly": True, "mountPath": "/var/run/secrets/serviceaccount"}],
        "livenessProbe": {**probe, "periodSeconds": chance.randint(5, 30)},
        "readinessProbe": {**probe, "periodSeconds": chance.randint(5, 30)},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
        "imagePullPolicy": "IfNotPresent",
    }
    return {
        "volumes": [{"name": token, "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        "containers": [container],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": app,
        "securityContext": {"runAsUser": chance.randint(1000, 60000), "runAsNonRoot": True},
        "schedulerName": "default-scheduler",
        "tolerations": [_toleration(why) for why in ("not-ready", "unreachable")],
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
    }


def _toleration(why: str) -> dict[str, Any]:
    taint = {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute"}
    return {**taint, "tolerationSeconds": 300}


def _pod_status(chance: random.Random, image: str) -> dict[str, Any]:
    address = _address(chance)
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": _time(chance)}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    return {
        "phase": "Running",
        "conditions": conditions,
        "hostIP": _address(chance),
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": _time(chance),
        "containerStatuses": [
            {
                "name": "main", "ready": True, "started": True, "restartCount": chance.randint(0, 30),
                "state": {"running": {"startedAt": "@TIME@"}},
                "image": image.partition("@")[0],
                "imageID": image,
                "containerID": f"containerd://{_hex(chance, 64)}",
            }
        ],
        "qosClass": "Burstable",
    }  # fmt: skip


def _event(chance: random.Random, _number: int) -> dict[str, Any]:
    reason, text = chance.choice(
        [("Scheduled", "Successfully assigned"), ("Pulled", "Container image already present for"),
         ("Unhealthy", "Readiness probe failed for"), ("BackOff", "Back-off restarting failed container in")]
    )  # fmt: skip
    pod = f"service-{chance.randint(1, 200)}-{_hex(chance, 10)}-{_hex(chance, 5)}"
    return {
        "metadata": _metadata(chance),
        "involvedObject": {
            "kind": "Pod", "namespace": "shop", "name": pod, "uid": _hex(chance, 32),
            "apiVersion": "v1", "resourceVersion": str(chance.randint(BASE, 2 * BASE)),
            "fieldPath": "spec.containers{main}",
        },
        "reason": reason,
        "message": f"{text} shop/{pod} on node-{chance.randint(1, 300)}, {_hex(chance, 12)}",
        "source": {"component": "kubelet", "host": f"node-{chance.randint(1, 300)}"},
        "firstTimestamp": _time(chance),
        "lastTimestamp": "@TIME@",
        "count": chance.randint(1, 500),
        "type": "Normal",
    }  # fmt: skip


def _widget(chance: random.Random, _number: int) -> dict[str, Any]:
    """40 kB of a custom resource: a long list of rules, as gateways and policies have it."""
    rules = [
        {
            "name": f"rule-{number}", "id": _hex(chance, 32), "weight": chance.randint(0, 1000),
            "match": {"path": f"/{_hex(chance, 8)}/{_hex(chance, 8)}", "method": chance.choice(_METHODS)},
            "backends": [
                {"service": f"service-{chance.randint(1, 200)}", "port": chance.randint(1024, 65535)}
                for _ in range(2)
            ],
        }
        for number in range(183)
    ]  # fmt: skip
    metadata = _metadata(chance, generation=chance.randint(1, 900))
    return {"metadata": metadata, "spec": {"rules": rules}, "status": {"observed": "@TIME@"}}


def _config_map(chance: random.Random, _number: int) -> dict[str, Any]:
    # base64, as a Secret's values are: the two differ in nothing but what kexport does to them.
    data = {f"key-{number}": _hex(chance, 63) + "0" for number in range(12)}
    return {"metadata": _metadata(chance), "data": data, "immutable": False}


_MAKERS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "pods": _pod,
    "events": _event,
    "widgets": _widget,
    "configmaps": _config_map,
    "secrets": _config_map,
}
