"""What really happened: every write to etcd, seen by a watch on etcd itself that no fault of a run touches.

etcd is never stopped, and nothing is compacted before this watch has it, so its history is whole. A watch
that etcd ends nevertheless breaks off the run: there is no verdict on half a truth.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.live.truth import Object
from tests.testbed import Etcd


class Step(NamedTuple):
    """One version of an object; `at` is when etcd told of it."""

    version: int
    change: str
    at: float


class Truth(threading.Thread):
    """Starts at once, behind the revision `since`; `prefixes` maps a resource to its keys' prefix in etcd."""

    def __init__(self, etcd: Etcd, prefixes: Mapping[str, str], *, namespace: str) -> None:
        super().__init__(name="truth", daemon=True)
        self._etcd = etcd
        self._prefixes = {prefix: resource for resource, prefix in prefixes.items()}
        self._namespace = namespace
        self.since = self.revision = etcd.revision()
        self.steps: dict[Object, list[Step]] = defaultdict(list)
        self.newest: dict[str, int] = defaultdict(int)
        """Of each resource its last version."""
        self.changes = 0
        self.error: BaseException | None = None
        self._closing = False
        self._connection = http.client.HTTPConnection("127.0.0.1", etcd.port, timeout=600)
        self.start()

    def run(self) -> None:
        try:
            self._watch()
        except BaseException as error:  # noqa: BLE001  (told to the thread that asks)
            if not self._closing:
                self.error = error

    def _watch(self) -> None:
        everything = {
            "key": _base64("/registry/"),
            "range_end": _base64("/registry0"),
            "start_revision": str(self.since + 1),
        }
        self._connection.request("POST", "/v3/watch", json.dumps({"create_request": everything}))
        for line in self._connection.getresponse():
            result = json.loads(line)["result"]
            if result.get("canceled") or result.get("compact_revision"):
                raise AssertionError(f"etcd ended the truth's watch: {result}")
            for event in result.get("events", []):
                self._take(event)
        raise AssertionError("etcd closed the truth's watch")

    def _take(self, event: dict[str, Any]) -> None:
        entry = event["kv"]
        key, version = base64.b64decode(entry["key"]).decode(), int(entry["mod_revision"])
        for prefix, resource in self._prefixes.items():
            if key.startswith(prefix):
                thing = (resource, f"{self._namespace}/{key.removeprefix(prefix)}")
                self.steps[thing].append(Step(version, _change(event), time.time()))
                self.newest[resource] = version
                self.changes += 1
        self.revision = version

    def reach(self, revision: int, *, seconds: float = 60) -> None:
        """Wait until everything up to this revision is known. Writes outside of /registry don't count."""
        deadline = time.monotonic() + seconds
        while self.revision < revision:
            self.check()
            assert time.monotonic() < deadline, f"the truth is at {self.revision} and not at {revision}"
            time.sleep(0.02)

    def check(self) -> None:
        """Raises what ended the watch."""
        if self.error:
            raise AssertionError("there is no truth to judge by") from self.error

    def close(self) -> None:
        self._closing = True
        if self._connection.sock:
            self._connection.sock.shutdown(2)
        self.join(10)
        self._connection.close()


def _change(event: dict[str, Any]) -> str:
    if event.get("type") == "DELETE":
        return "deleted"
    entry = event["kv"]
    return "added" if entry["create_revision"] == entry["mod_revision"] else "modified"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
