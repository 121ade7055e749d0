"""The sinks' far ends, started when they are first asked for; each measurement has its own place in them."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.exporting import S3_BATCH
from tests.testbed import Cluster, Collector, Kafka, S3Server


class FarEnds:
    """Raises NotBuiltError where a server isn't built: the scenario then says that it is absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = ExitStack()
        self._kafka: Kafka | None = None
        self._s3: S3Server | None = None
        self._collector: Collector | None = None
        self._cluster: Cluster | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.close()

    @property
    def kafka(self) -> Kafka:
        if self._kafka is None:
            self._kafka = self._started.enter_context(Kafka(self._folder / "kafka"))
        return self._kafka

    @property
    def cluster(self) -> Cluster:
        """etcd and the API server, without controllers: nothing else writes."""
        if self._cluster is None:
            made = Cluster(self._folder / "cluster", controllers=False, unsafe_no_fsync=False)
            self._cluster = self._started.enter_context(made)
        return self._cluster

    def sink(self, kind: str, folder: Path) -> dict[str, Any]:
        """The settings of a sink into a place of its own: null, file, kafka, s3 or otlp."""
        number = next(self._numbers)
        match kind:
            case "null":
                return {"type": "bench"}
            case "file":
                return {"type": "file", "path": str(folder / "changes.jsonl")}
            case "kafka":
                servers = [self.kafka.bootstrap]
                return {"type": "kafka", "bootstrap_servers": servers, "topic": f"bench-{number}"}
            case "s3":
                return self._s3_sink(number)
            case "otlp":
                if self._collector is None:
                    self._collector = self._started.enter_context(Collector(self._folder / "collector"))
                return {"type": "otlp", "endpoint": self._collector.endpoint}
        raise AssertionError(kind)

    def _s3_sink(self, number: int) -> dict[str, Any]:
        if self._s3 is None:
            self._s3 = self._started.enter_context(S3Server(self._folder / "s3"))
            self._s3.make_bucket("bench")
        return {
            "type": "s3",
            "url": f"s3://bench/{number}",
            "endpoint": self._s3.endpoint,
            "allow_http": True,
            "access_key_id": self._s3.access_key,
            "secret_access_key": self._s3.secret_key,
            "batch": S3_BATCH,
        }
