"""Changes without rest: creates, updates, deletes, creates again under the same name, and patches of status.

An API server that is killed or stopped leaves it open whether a write went in, and may carry one out long
after its client gave up. So nothing is taken for granted about what exists: what happened is etcd's to say.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from typing import Any

from tests.testbed import ApiServer, is_passing

MERGE = "application/merge-patch+json"
NAMES = 15
BEHIND_SECONDS = 2.0  # what an outage kept from being written isn't made up for in one burst
POD = {"containers": [{"name": "main", "image": "example.com/main:1"}]}
PATHS = {
    "configmaps": ("/api/v1", "v1", "ConfigMap"),
    "pods": ("/api/v1", "v1", "Pod"),
    "deployments.apps": ("/apis/apps/v1", "apps/v1", "Deployment"),
    "widgets.example.com": ("/apis/example.com/v1", "example.com/v1", "Widget"),
}
PREFIXES = {
    "configmaps": "/registry/configmaps/",
    "pods": "/registry/pods/",
    "deployments.apps": "/registry/deployments/",
    "widgets.example.com": "/registry/example.com/widgets/",
}
"""Where etcd keeps each resource."""


def path(resource: str, namespace: str, name: str = "") -> str:
    plural = resource.partition(".")[0]
    return f"{PATHS[resource][0]}/namespaces/{namespace}/{plural}/{name}".rstrip("/")


class Writer(threading.Thread):
    """Writes about `per_second` times a second until `finish`; each number has objects of its own."""

    def __init__(self, api: ApiServer, namespace: str, *, number: int, per_second: float, seed: int) -> None:
        super().__init__(name=f"writer {number}", daemon=True)
        self._api = api
        self._namespace = namespace
        self._number = number
        self._pause = 1 / per_second
        self._random = random.Random(f"{seed} {number}")
        self._alive: set[tuple[str, str]] = set()
        self._ending = threading.Event()
        self.made = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            due = time.monotonic()
            while not self._ending.is_set():
                self._change()
                due = max(due + self._pause, time.monotonic() - BEHIND_SECONDS)
                self._ending.wait(max(0.0, due - time.monotonic()))
        except BaseException as error:  # noqa: BLE001  (told to the thread that finishes)
            self.error = error

    def finish(self) -> None:
        """End after the change that is under way; raises what went wrong."""
        self._ending.set()
        self.join(90)
        assert not self.is_alive(), "a writer hangs"
        if self.error:
            raise self.error

    def _change(self) -> None:
        resource = self._random.choices(list(PATHS), weights=(35, 30, 10, 25))[0]
        name = f"w{self._number}-{self._random.randrange(NAMES)}"
        if (resource, name) not in self._alive:
            self._create(resource, name)
        elif self._random.random() < 0.12:
            self._write("DELETE", path(resource, self._namespace, name))
            self._alive.discard((resource, name))
            if self._random.random() < 0.5:
                self._create(resource, name)
        else:
            self._patch(resource, name)

    def _create(self, resource: str, name: str) -> None:
        self._write("POST", path(resource, self._namespace), self._body(resource, name))
        self._alive.add((resource, name))

    def _patch(self, resource: str, name: str) -> None:
        where = path(resource, self._namespace, name)
        body: dict[str, Any] = {"metadata": {"annotations": {"n": str(self.made)}}}
        if resource == "pods" and self._random.random() < 0.6:
            where += "/status"
            body = {"status": {"phase": "Running", "message": f"n {self.made}"}}
        elif resource == "deployments.apps":
            body["spec"] = {"paused": self._random.random() < 0.5}
        if self._write("PATCH", where, body) == 404:
            self._alive.discard((resource, name))

    def _body(self, resource: str, name: str) -> dict[str, Any]:
        _, version, kind = PATHS[resource]
        annotations = {"n": str(self.made), "padding": "x" * self._random.randrange(1000)}
        body: dict[str, Any] = {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": name, "annotations": annotations},
        }
        if resource == "pods":
            body["spec"] = POD
        elif resource == "deployments.apps":
            labels = {"app": name}
            body["spec"] = {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": POD},
            }
        return body

    def _write(self, method: str, where: str, body: Any = None) -> int:
        """The status with which the server took it, or with which it turned out to be done already."""
        status, _ = ask(self._api, method, where, body, ending=self._ending)
        self.made += 1
        return status


def ask(
    api: ApiServer, method: str, where: str, body: Any = None, *, ending: threading.Event | None = None
) -> tuple[int, bytes]:
    """One request, again and again while the API server is away; 404 and 409 are answers, too."""
    deadline = time.monotonic() + 180
    content = MERGE if method == "PATCH" else "application/json"
    while True:
        try:
            status, answer = api.request(method, where, body, content_type=content, max_wait_seconds=15)
        except (OSError, http.client.HTTPException) as error:
            status, answer = 503, str(error).encode()
        if status < 300 or (status in {404, 409} and (status, method) != (404, "POST")):
            return status, answer
        told = f"{method} {where}: {status} {answer[:300]!r}"
        assert is_passing(status, answer), told
        assert time.monotonic() < deadline, told
        if (ending or threading.Event()).wait(0.2):
            return status, answer
