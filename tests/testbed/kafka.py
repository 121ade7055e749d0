"""A single Apache Kafka broker that is its own controller (KRaft), run by java on its jars."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from tests.testbed.cache import require
from tests.testbed.port import free_port
from tests.testbed.process import Server, ServerError
from tests.testbed.recipes import KAFKA


class Kafka(Server):
    """One broker; a restart keeps port and data. `properties` add to or replace its settings."""

    def __init__(
        self,
        folder: Path,
        *,
        auto_create_topics: bool = True,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, name="kafka", command=self._broker, answers=self._answers_a_request)
        self._classpath = f"{require(KAFKA)}/*"
        self.port = free_port()
        controller = f"127.0.0.1:{free_port()}"
        self.properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": str(auto_create_topics).lower(),
            "num.partitions": "1",
            # One broker can't hold three copies, and one partition each is made fastest.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A killed broker may not come back before its session has ended: 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **(properties or {}),
        }

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _broker(self) -> list[str]:
        settings = self.folder / "server.properties"
        settings.write_text("".join(f"{key}={value}\n" for key, value in self.properties.items()))
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(settings)
        return self._java("kafka.Kafka", str(settings))

    def _format(self, settings: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        done = subprocess.run(
            # --cluster-id=: the id may begin with a dash.
            self._java(
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",
                "-c",
                str(settings),
            ),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"kafka's storage can't be formatted: {done.stdout}{done.stderr}")

    def _java(self, *arguments: str) -> list[str]:
        java = shutil.which("java")
        if java is None:
            raise ServerError("kafka needs java on PATH")
        # A start should be quick, and nothing here runs long enough for the second compiler.
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [os.path.realpath(java), *options, "-cp", self._classpath, *arguments]

    def _answers_a_request(self) -> bool:
        """Ask for the ApiVersions: requests are answered once the broker has joined its cluster."""
        request = struct.pack(">hhih", 18, 0, 7, -1)  # key, version, correlation id, no client id
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(10, socket.MSG_WAITALL)
        if len(answer) < 10:
            return False
        _size, correlation_id, error = struct.unpack(">iih", answer)
        return bool(correlation_id == 7 and error == 0)
