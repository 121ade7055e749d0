"""An API server that does nothing but send: `python -m tests.bench.stub SPEC` serves what SPEC (JSON) says.

It runs as a process of its own, so that its work counts for nobody, and serves what list and watch need:
discovery, kube-system, lists in pages, and watches whose lines are made from a pool. Change N of a resource
has version BASE + 1 + N, so whoever comes back with a version goes on exactly there. Every line is an
HTTP chunk of its own, as a real API server sends it.
"""

from __future__ import annotations

import json
import select
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from typing_extensions import override

from tests.bench.objects import BASE, Shape

SEND_BYTES = 256 << 10
UID = "0b5d6c0e-7c1f-4f5e-9a57-2f7f3d2a9c11"
VERBS = ["get", "list", "watch"]


class Served(NamedTuple):
    """One resource: `listed` objects exist at first, then `changes` follow, `per_second` (0: at once).

    Objects take turns in the changes; with as many objects as changes, and type ADDED, each is a new one.
    """

    group: str
    version: str
    name: str
    kind: str
    shape: str
    objects: int
    listed: int = 0
    changes: int = 0
    per_second: float = 0.0
    change_type: str = "MODIFIED"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        return f"/{'apis' if self.group else 'api'}/{self.api_version}/{self.name}"


class Stub(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(
        self, resources: list[Served], *, bookmark_seconds: float, watch_list: bool, moving: bool
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.resources = {each.path: each for each in resources}
        shapes: dict[tuple[str, int], Shape] = {}
        self.shapes: dict[str, Shape] = {}
        for path, each in self.resources.items():
            head = {"kind": each.kind, "apiVersion": each.api_version}
            if (each.shape, each.objects) not in shapes:  # five hundred resources may share one pool
                shapes[each.shape, each.objects] = Shape(each.shape, objects=each.objects, head=head)
            self.shapes[path] = shapes[each.shape, each.objects]
        self.bookmark_seconds = bookmark_seconds
        self.watch_list = watch_list
        self.moving = moving  # each bookmark is a version later, as where other resources change
        self.lock = threading.Lock()
        self.opened: list[float] = []
        self.ended: list[float] = []

    def state(self) -> dict[str, Any]:
        """When watches were opened, and when each had been sent all its changes (CLOCK_MONOTONIC)."""
        with self.lock:
            return {"opened": self.opened, "ended": self.ended}

    def first_wait(self) -> float:
        """Spread, so that watches which were opened together don't get their bookmarks together."""
        with self.lock:
            return self.bookmark_seconds * (len(self.ended) * _GOLDEN % 1)

    def note(self, times: list[float]) -> None:
        with self.lock:
            times.append(time.monotonic())

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # a client that went is no error
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        if resource := self.server.resources.get(url.path):
            if query.get("watch") in {"1", "true", "True"}:
                self._watch(resource, query)
            else:
                self._list(resource, query)
            return
        document = self._document(url.path)
        if document is None:
            self._send(b'{"kind":"Status","status":"Failure","reason":"NotFound","code":404}', status=404)
        else:
            self._send(json.dumps(document).encode(), kind=_AGGREGATED if url.path in _ROOTS else _JSON)

    def _document(self, path: str) -> dict[str, Any] | None:
        if path == "/bench":
            return self.server.state()
        if path == "/version":
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.2"}
        if path == "/api/v1/namespaces/kube-system":
            metadata = {"name": "kube-system", "uid": UID, "resourceVersion": "1"}
            return {"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}
        if path in _ROOTS:
            return _discovery(self.server.resources.values(), core=path == "/api")
        return None

    def _send(self, body: bytes, *, status: int = 200, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # -- lists --------------------------------------------------------------------------------------------

    def _list(self, resource: Served, query: dict[str, str]) -> None:
        start = int(query.get("continue") or 0)
        end = min(resource.listed, start + int(query.get("limit") or resource.listed or 1))
        shape = self.server.shapes[resource.path]
        more = {"continue": str(end), "remainingItemCount": resource.listed - end}
        metadata = {"resourceVersion": str(BASE), **(more if end < resource.listed else {})}
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
        items = b",".join(shape.listed(number) for number in range(start, end))
        self._send(json.dumps(head)[:-1].encode() + b',"items":[' + items + b"]}")

    # -- watches ------------------------------------------------------------------------------------------

    def _watch(self, resource: Served, query: dict[str, str]) -> None:
        initial = query.get("sendInitialEvents") == "true"
        if initial and not self.server.watch_list:
            self._send(b'{"kind":"Status","status":"Failure","reason":"Invalid","code":422}', status=422)
            return
        self.server.note(self.server.opened)
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        if initial:
            self._pour(self._initial(resource))
        first = max(0, int(query.get("resourceVersion") or BASE) - BASE)
        self._changes(resource, first)
        self.server.note(self.server.ended)
        wait, version = self.server.first_wait(), BASE + max(first, resource.changes)
        while self._still_there(wait):
            version += self.server.moving
            self._pour(iter([self._bookmark(resource, version)]))
            wait = self.server.bookmark_seconds

    def _changes(self, resource: Served, first: int) -> None:
        shape, type_ = self.server.shapes[resource.path], resource.change_type.encode()
        if not resource.per_second:
            self._pour(shape.change(number, type_=type_) for number in range(first, resource.changes))
            return
        due = time.monotonic()
        for number in range(first, resource.changes):
            due += 1 / resource.per_second
            time.sleep(max(0.0, due - time.monotonic()))
            line = shape.change(number, stamped=True, type_=type_)
            self.wfile.write(_chunk(line))

    def _pour(self, lines: Iterator[bytes]) -> None:
        """As fast as the socket takes them, many lines a call."""
        waiting: list[bytes] = []
        size = 0
        for line in lines:
            waiting.append(_chunk(line))
            size += len(line)
            if size >= SEND_BYTES:
                self.connection.sendall(b"".join(waiting))
                waiting, size = [], 0
        self.connection.sendall(b"".join(waiting))

    def _initial(self, resource: Served) -> Iterator[bytes]:
        shape = self.server.shapes[resource.path]
        for number in range(resource.listed):
            yield b'{"type":"ADDED","object":%b}\n' % shape.listed(number)
        yield self._bookmark(resource, BASE, ends=True)

    def _bookmark(self, resource: Served, version: int, *, ends: bool = False) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if ends:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        item = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        return json.dumps({"type": "BOOKMARK", "object": item}).encode() + b"\n"

    def _still_there(self, seconds: float) -> bool:
        """Wait until the next bookmark is due; False when the client went meanwhile."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        return not readable


_GOLDEN = 0.618034  # its multiples, taken modulo 1, fill the interval evenly
_JSON = "application/json"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_ROOTS = {"/api", "/apis"}


def _chunk(line: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(line), line)


def _discovery(resources: Any, *, core: bool) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for each in resources:
        if bool(each.group) == core:
            continue
        kind = {"group": each.group, "version": each.version, "kind": each.kind}
        version = {"version": each.version, "resources": [], "freshness": "Current"}
        group = groups.setdefault(each.group, {"metadata": {"name": each.group}, "versions": [version]})
        group["versions"][0]["resources"].append(
            {"resource": each.name, "responseKind": kind, "scope": "Namespaced", "verbs": VERBS}
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": list(groups.values()),
    }


def main() -> None:
    """Print the port once everything is made, and serve until killed."""
    spec = json.loads(sys.argv[1])
    stub = Stub(
        [Served(**each) for each in spec["resources"]],
        bookmark_seconds=spec["bookmark_seconds"],
        watch_list=spec["watch_list"],
        moving=spec["moving"],
    )
    print(stub.server_address[1], flush=True)
    stub.serve_forever()


if __name__ == "__main__":
    main()
