"""Makes changes on a real cluster: objects of its own at random, and a Deployment for the controllers."""

from __future__ import annotations

import json
import random
import threading
import time
from http.client import HTTPException
from typing import Any

from tests.informer_cases import WIDGET_CRD
from tests.live.exporting import wait_until
from tests.testbed import ApiServer, is_passing

RESOURCES = {
    "configmaps": ("/api/v1", "v1", "ConfigMap"),
    "widgets.example.com": ("/apis/example.com/v1", "example.com/v1", "Widget"),
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "example.com/web:1"}]},
        },
    },
}
MERGE = "application/merge-patch+json"


class Writer(threading.Thread):
    """Creates, changes, deletes and makes again, about `per_second` times a second, until `done` changes."""

    def __init__(self, api: ApiServer, namespace: str, *, changes: int, per_second: float, seed: int) -> None:
        super().__init__(name="writer", daemon=True)
        self._api = api
        self.namespace = namespace
        self._changes = changes
        self._gap = 1 / per_second
        self._random = random.Random(seed)
        self._alive: set[tuple[str, str]] = set()
        self.made = 0
        self.error: BaseException | None = None

    def prepare(self) -> None:
        """The namespace, the custom resource's definition and the Deployment."""
        self._write("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        status, _ = self._api.request("POST", path, WIDGET_CRD)
        assert status in {201, 409}
        wait_until(
            lambda: self._api.request("GET", self.path("widgets.example.com"))[0] == 200,
            seconds=60,
            what="the custom resource is served",
        )
        self._write("POST", f"/apis/apps/v1/namespaces/{self.namespace}/deployments", DEPLOYMENT)

    def path(self, resource: str, name: str = "") -> str:
        plural = resource.partition(".")[0]
        return f"{RESOURCES[resource][0]}/namespaces/{self.namespace}/{plural}/{name}".rstrip("/")

    def run(self) -> None:
        try:
            due = time.monotonic()
            while self.made < self._changes:
                self._change()
                due += self._gap
                time.sleep(max(0.0, due - time.monotonic()))
        except BaseException as error:  # noqa: BLE001  (told to the test's thread)
            self.error = error

    def _change(self) -> None:
        if self.made % 100 == 50:
            self._scale()
            return
        resource = self._random.choice(list(RESOURCES))
        name = f"o{self._random.randrange(30)}"
        if (resource, name) not in self._alive:
            self._write("POST", self.path(resource), self._body(resource, name))
            self._alive.add((resource, name))
        elif self._random.random() < 0.15:
            self._write("DELETE", self.path(resource, name))
            self._alive.remove((resource, name))
        else:
            patch = {"metadata": {"annotations": {"n": str(self.made)}}}
            self._write("PATCH", self.path(resource, name), patch, content_type=MERGE)

    def _scale(self) -> None:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/web"
        replicas = self._random.randrange(4)
        self._write("PATCH", path, {"spec": {"replicas": replicas}}, content_type=MERGE)

    def _body(self, resource: str, name: str) -> dict[str, Any]:
        _, version, kind = RESOURCES[resource]
        padding = "x" * self._random.randrange(2000)
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": name, "annotations": {"n": str(self.made), "padding": padding}},
        }

    def _write(self, method: str, path: str, body: Any = None, **options: Any) -> None:
        """A write that the server took; an API server that is away is asked again."""
        deadline = time.monotonic() + 60
        while True:
            try:
                status, answer = self._api.request(method, path, body, **options)
            except (OSError, HTTPException):
                status, answer = 503, b"away"
            # After an outage nobody knows whether the first try went in: both answers mean that it did.
            if status < 300 or (status, method) in {(409, "POST"), (404, "DELETE")}:
                break
            told = f"{method} {path}: {status} {answer[:300]!r}"
            assert is_passing(status, answer), told
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
        self.made += 1

    def successor(self, *, changes: int, per_second: float, seed: int) -> Writer:
        """Another writer in the same namespace, which knows what this one, when it has ended, left there."""
        other = Writer(self._api, self.namespace, changes=changes, per_second=per_second, seed=seed)
        other._alive = self._alive
        return other

    def stop(self) -> None:
        """Let the change that is being made be the last one."""
        self._changes = 0

    def finish(self) -> None:
        """Wait for the last change; raises what went wrong."""
        self.join(600)
        assert not self.is_alive(), "the writer hangs"
        if self.error:
            raise self.error

    def wait_until_quiet(self) -> None:
        """Wait until the controllers have nothing left to do here.

        That is the Deployment, whose status is written behind its Pods', and the certificates that each new
        namespace gets.
        """
        wait_until(
            lambda: (
                self._rolled_out() and self._get(f"{self._in_core}/configmaps/kube-root-ca.crt") is not None
            ),
            seconds=180,  # after an outage they come back up to a minute late
            what="the controllers are done",
        )

    def _rolled_out(self) -> bool:
        """Without a kubelet no Pod becomes available, and the status says so last."""
        web = self._get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/web")
        listing = self._get(f"{self._in_core}/pods")
        if web is None or listing is None:
            return False
        pods = listing["items"]
        gone = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
        wanted, status = web["spec"]["replicas"], web.get("status", {})
        counted = [status.get(each, 0) for each in ("replicas", "updatedReplicas", "unavailableReplicas")]
        current = status.get("observedGeneration") == web["metadata"]["generation"]
        return current and not gone and [len(pods), *counted] == [wanted] * 4

    @property
    def _in_core(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    def _get(self, path: str) -> Any:
        """What is there; None when nothing is."""
        status, answer = self._api.request("GET", path)
        return json.loads(answer) if status == 200 else None
