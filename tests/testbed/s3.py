"""An S3 server on a loopback port: versitygw, which keeps buckets and objects as folders and files."""

from __future__ import annotations

import http.client
from pathlib import Path

from tests.testbed.cache import require
from tests.testbed.port import free_port
from tests.testbed.process import Server
from tests.testbed.recipes import VERSITYGW


class S3Server(Server):
    """One gateway with one user, who may do everything; a restart keeps port, buckets and objects."""

    access_key = "testbed"
    secret_key = "testbed-secret-key"
    region = "us-east-1"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="versitygw", command=self._gateway, answers=self._healthy)
        self._binary = require(VERSITYGW) / "versitygw"
        self._buckets = self.folder / "buckets"
        self._buckets.mkdir(exist_ok=True)
        self.port = free_port()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def make_bucket(self, name: str) -> Path:
        """The bucket's folder; an object is the file of its name in there."""
        bucket = self._buckets / name
        bucket.mkdir()
        return bucket

    def _gateway(self) -> list[str]:
        return [
            str(self._binary),
            f"--access={self.access_key}",
            f"--secret={self.secret_key}",
            f"--region={self.region}",
            f"--port=127.0.0.1:{self.port}",
            "--health=/healthy",
            "--quiet",
            "posix",
            str(self._buckets),
        ]

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/healthy")
            return connection.getresponse().status == 200
        finally:
            connection.close()
