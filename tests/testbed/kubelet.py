"""A node of one namespace: runs each Pod's container from the image's files, as the Pod says.

Environment, ConfigMap and Secret files, a token from TokenRequest that is bound to the Pod, claims as
folders that stay, user and group, read-only root, probes over HTTP, SIGTERM and the grace period. Tokens
live as long as is said here, and are renewed in time. What it leaves out: the network (the machine's is
used), limits, seccomp, restarts, and more than one container.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.testbed.kubernetes import ApiServer
from tests.testbed.pod import RunningPod
from tests.testbed.token import shortened

NODE = "testbed"
_SYNC_SECONDS = 0.2
_REFRESH_SECONDS = 2.0
_RENEW_AT = 0.8  # of a token's life, as the real one does
_MERGE = "application/merge-patch+json"


class AbsentError(AssertionError):
    """What the API server was asked about is not there, or no longer the same."""


class Kubelet(threading.Thread):
    """`with Kubelet(…) as kubelet`; `error` is what ended it, `ended` the Pods that were stopped."""

    def __init__(
        self,
        api: ApiServer,
        namespace: str,
        folder: Path,
        *,
        root: Path,
        image: dict[str, Any],
        token_seconds: float,
    ) -> None:
        super().__init__(name="kubelet", daemon=True)
        self._api = api
        self._namespace = namespace
        self._folder = folder
        self._root, self._image = root, image
        self._token_seconds = token_seconds
        self._pods: dict[str, RunningPod] = {}
        self._stopping = threading.Event()
        self._refreshed = 0.0
        self._renewing = True
        self._missed = ""
        self.ended: list[RunningPod] = []
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join(30)
        for pod in self._pods.values():
            pod.kill()

    def claim(self, name: str) -> Path:
        """The folder of a claim's volume; it stays whatever happens to the Pod."""
        folder = self._folder / "claims" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def pod(self, name: str) -> RunningPod:
        (found,) = (pod for pod in list(self._pods.values()) if pod.name == name)
        return found

    @contextmanager
    def without_renewals(self) -> Iterator[None]:
        """A node that is too late: the tokens in their files are left to run out."""
        self._renewing = False
        try:
            yield
        finally:
            self._renewing = True

    def run(self) -> None:
        try:
            self._call("POST", "/api/v1/nodes", {"metadata": {"name": NODE}}, accept={201, 409})
            while not self._stopping.wait(_SYNC_SECONDS):
                self._sync()
        except BaseException as error:  # noqa: BLE001  (told to the test's thread)
            self.error = error

    def _sync(self) -> None:
        pods = self._call("GET", f"/api/v1/namespaces/{self._namespace}/pods")["items"]
        # A Pod that has ended is deleted without a word to its node.
        for uid in self._pods.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self._pods[uid].kill()
            self.ended.append(self._pods.pop(uid))
        if refresh := time.monotonic() - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = time.monotonic()
        for pod in pods:
            running = self._pods.get(pod["metadata"]["uid"])
            if pod["metadata"].get("deletionTimestamp"):
                self._end(pod, running)
            elif running is None and pod.get("status", {}).get("phase") == "Pending":
                # As the real one: tried again until all that it names is there.
                with self._patience():
                    self._begin(pod)
            elif running:
                if refresh:
                    # As the real one: what was deleted stays mounted.
                    with self._patience():
                        self._write_volumes(pod, running.volumes)
                if running.look():
                    self._tell(pod, running)

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """What is absent is for the next round; a test that fails over it shows what that was."""
        try:
            yield
        except AbsentError as error:
            if self._missed != str(error):
                self._missed = str(error)
                print(f"the node waits: {error}", flush=True)

    def _begin(self, pod: dict[str, Any]) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if not pod["spec"].get("nodeName"):
            target = {"target": {"kind": "Node", "name": NODE}, "metadata": {"name": name}}
            self._call("POST", self._path(f"pods/{name}/binding"), target)
        volumes = self._folder / uid / "volumes"
        self._write_volumes(pod, volumes)
        running = RunningPod(
            pod,
            folder=self._folder / uid,
            root=self._root,
            image=self._image,
            environment=self._environment(pod),
            sources={volume["name"]: self._source(volume, volumes) for volume in pod["spec"]["volumes"]},
        )
        self._pods[uid] = running
        running.start()

    def _end(self, pod: dict[str, Any], running: RunningPod | None) -> None:
        """SIGTERM, and SIGKILL when the grace period is over; then the Pod is gone."""
        if running:
            running.terminate(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            if not running.gone():
                return
            self.ended.append(self._pods.pop(pod["metadata"]["uid"]))
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        self._call("DELETE", self._path(f"pods/{pod['metadata']['name']}"), options, accept={200, 404, 409})

    def _tell(self, pod: dict[str, Any], running: RunningPod) -> None:
        path = self._path(f"pods/{pod['metadata']['name']}/status")
        status = running.status()
        self._call("PATCH", path, {"status": status}, content_type=_MERGE, accept={200, 404})

    # -- what the container is given ----------------------------------------------------------------------

    def _environment(self, pod: dict[str, Any]) -> dict[str, str]:
        container = pod["spec"]["containers"][0]
        found = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._api.port)}
        for source in container.get("envFrom", ()):
            for key, value in self._data("secrets", source["secretRef"]["name"]).items():
                found[key] = value.decode()
        return {**found, **{each["name"]: each["value"] for each in container.get("env", ())}}

    def _source(self, volume: dict[str, Any], volumes: Path) -> Path:
        if claim := volume.get("persistentVolumeClaim"):
            return self.claim(claim["claimName"])
        return volumes / str(volume["name"])

    def _write_volumes(self, pod: dict[str, Any], volumes: Path) -> None:
        for volume in pod["spec"]["volumes"]:
            folder = volumes / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self._files(pod, volume, folder).items():
                if not (folder / name).exists() or (folder / name).read_bytes() != content:
                    fresh = folder / f".{name}"
                    fresh.write_bytes(content)
                    os.chown(fresh, 0, folder.stat().st_gid)
                    fresh.chmod(0o440)
                    fresh.replace(folder / name)

    def _files(self, pod: dict[str, Any], volume: dict[str, Any], folder: Path) -> dict[str, bytes]:
        if "configMap" in volume:
            return self._data("configmaps", volume["configMap"]["name"])
        if "secret" in volume:
            return self._data("secrets", volume["secret"]["secretName"])
        found: dict[str, bytes] = {}
        for source in volume.get("projected", {}).get("sources", ()):
            found |= self._projected(pod, source, folder)
        return found

    def _projected(self, pod: dict[str, Any], source: dict[str, Any], folder: Path) -> dict[str, bytes]:
        if token := source.get("serviceAccountToken"):
            place = folder / token["path"]
            kept = place.exists() and not (self._renewing and self._is_due(place))
            return {token["path"]: place.read_bytes() if kept else self._token(pod, token)}
        if chosen := source.get("configMap"):
            data = self._data("configmaps", chosen["name"])
            return {item["path"]: data[item["key"]] for item in chosen["items"]}
        items = source["downwardAPI"]["items"]
        assert all(item["fieldRef"]["fieldPath"] == "metadata.namespace" for item in items)
        return {item["path"]: self._namespace.encode() for item in items}

    def _is_due(self, token: Path) -> bool:
        return time.time() - token.stat().st_mtime > _RENEW_AT * self._token_seconds

    def _token(self, pod: dict[str, Any], token: dict[str, Any]) -> bytes:
        metadata = pod["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        request = {"spec": {"expirationSeconds": token["expirationSeconds"], "boundObjectRef": bound}}
        path = self._path(f"serviceaccounts/{pod['spec']['serviceAccountName']}/token")
        issued: str = self._call("POST", path, request)["status"]["token"]
        return shortened(issued.encode(), key=self._api.signing_key, seconds=self._token_seconds)

    def _data(self, kind: str, name: str) -> dict[str, bytes]:
        found = self._call("GET", self._path(f"{kind}/{name}")).get("data") or {}
        decode = base64.b64decode if kind == "secrets" else str.encode
        return {key: decode(value) for key, value in found.items()}

    def _path(self, rest: str) -> str:
        return f"/api/v1/namespaces/{self._namespace}/{rest}"

    def _call(
        self, method: str, path: str, body: Any = None, *, accept: set[int] | None = None, **options: Any
    ) -> Any:
        status, answer = self._api.request(method, path, body, **options)
        if status not in (accept or {200, 201}):
            kind = AbsentError if status in {404, 409} else AssertionError
            raise kind(f"{method} {path}: {status} {answer[:500]!r}")
        return json.loads(answer)
