"""A single OpenTelemetry Collector: OTLP over HTTP and gRPC in, files of JSON lines out."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from tests.testbed.cache import require
from tests.testbed.port import free_port
from tests.testbed.process import Server
from tests.testbed.recipes import COLLECTOR


class Collector(Server):
    """One collector without a queue: its answer says what the file exporter did with the records.

    A restart keeps ports and files. Each line of `output` is one request with logs that was exported, each of
    `metrics` one with metrics.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="collector", command=self._collector, answers=self._answers_a_request)
        self._binary = require(COLLECTOR) / "collector"
        self.port = free_port()
        self.grpc_port = free_port()
        self.output = self.folder / "output.json"
        self.metrics = self.folder / "metrics.json"

    @property
    def endpoint(self) -> str:
        """The base URL, as OTEL_EXPORTER_OTLP_ENDPOINT would have it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.grpc_port}"

    def _collector(self) -> list[str]:
        settings = self.folder / "collector.yaml"
        # Every JSON document is a YAML one.
        settings.write_text(json.dumps(self._settings(), indent=2))
        return [str(self._binary), f"--config=file:{settings}"]

    def _settings(self) -> dict[str, object]:
        logs = {"receivers": ["otlp"], "exporters": ["file"]}
        metrics = {"receivers": ["otlp"], "exporters": ["file/metrics"]}
        # Without rotation the file exporter keeps up to a second's records in memory, and begins
        # a new file at each start; with it every record is written at once, behind what is there.
        rotation = {"max_megabytes": 10_000}
        file = {"path": str(self.output), "rotation": rotation}
        figures = {"path": str(self.metrics), "rotation": rotation}
        protocols = {
            "http": {"endpoint": f"127.0.0.1:{self.port}"},
            "grpc": {"endpoint": f"127.0.0.1:{self.grpc_port}"},
        }
        return {
            "receivers": {"otlp": {"protocols": protocols}},
            "exporters": {"file": file, "file/metrics": figures},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"logs": logs, "metrics": metrics},
            },
        }

    def _answers_a_request(self) -> bool:
        """Send a request without records: nothing reaches the file."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("POST", "/v1/logs", b"", {"Content-Type": "application/x-protobuf"})
            return connection.getresponse().status == 200
        finally:
            connection.close()
