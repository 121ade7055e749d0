"""etcd on a loopback port, and the little of its API that the tests need."""

from __future__ import annotations

import base64
import http.client
import json
from pathlib import Path
from typing import Any

from tests.testbed.cache import require
from tests.testbed.port import free_port
from tests.testbed.process import Server, ServerError
from tests.testbed.recipes import ETCD


class Etcd(Server):
    """One etcd member. Tests of a crash of the machine turn `unsafe_no_fsync` off."""

    def __init__(self, folder: Path, *, unsafe_no_fsync: bool = True) -> None:
        super().__init__(folder, name="etcd", command=self._etcd, answers=self._healthy)
        self._binary = require(ETCD) / "etcd"
        self._unsafe_no_fsync = unsafe_no_fsync
        self.port = free_port()
        self._peer_url = f"http://127.0.0.1:{free_port()}"

    @property
    def client_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def revision(self) -> int:
        """The revision of the last write: what the API server's newest resourceVersion is."""
        answer = self._call("/v3/kv/range", {"key": _base64("\0")})
        return int(answer["header"]["revision"])

    def compact(self, revision: int | None = None) -> int:
        """Forget the history before the revision (or before now): older watches get a 410."""
        at = self.revision() if revision is None else revision
        self._call("/v3/kv/compaction", {"revision": str(at), "physical": True})
        return at

    def _etcd(self) -> list[str]:
        fsync = ["--unsafe-no-fsync"] if self._unsafe_no_fsync else []
        return [
            str(self._binary),
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self._peer_url}",
            f"--initial-advertise-peer-urls={self._peer_url}",
            f"--initial-cluster=default={self._peer_url}",
            *fsync,
        ]

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ServerError(f"etcd answered {response.status} to {path} {body}: {answer.decode()}")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
