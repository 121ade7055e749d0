"""The far ends of four sinks: taken away and brought back, watched while kexport delivers, read back after.

What is read back comes through tools that the sinks have no part in: Kafka's own console consumer, Arrow's S3
client, protobuf's JSON parser.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.fs
import zstandard
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from google.protobuf import json_format  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from tests.live.exporting import file_lines
from tests.live.far_end import FarEnd, Tail
from tests.live.link import Link
from tests.testbed import Collector, Kafka, S3Server


class Folder(FarEnd):
    """A file in a folder; down means that the folder is away, and something else has its name."""

    def __init__(self, folder: Path) -> None:
        super().__init__("file")
        self._link = Link(folder)
        self._path = folder / "changes.jsonl"
        self._tail = Tail(self._path)

    def settings(self) -> dict[str, Any]:
        return {"type": "file", "path": str(self._path), "retry": {"max_seconds": 2.0}}

    def down(self) -> None:
        self._link.down()

    def up(self) -> None:
        self._link.up()

    def read_back(self) -> list[bytes]:
        return file_lines(self._path)

    def _look(self) -> None:
        self._add(self._tail.read())


class Topics(FarEnd):
    """A topic a resource; down means that the broker is stopped."""

    pause_seconds = 0.0
    by_uid = True

    def __init__(self, kafka: Kafka, prefix: str) -> None:
        super().__init__("kafka")
        self._kafka = kafka
        self._prefix = prefix
        settings = {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": f"{prefix}-watching",
            "enable.auto.commit": False,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,  # a broker that is away is what the test is about
        }
        self._consumer = Consumer(settings)
        self._next: dict[tuple[str, int], int] = {}

    def settings(self) -> dict[str, Any]:
        return {
            "type": "kafka",
            "bootstrap_servers": [self._kafka.bootstrap],
            "topic": self._prefix + ".{resource}",
            "retry": {"max_seconds": 2.0},
        }

    def down(self) -> None:
        self._kafka.stop()

    def up(self) -> None:
        self._kafka.start()

    def assign(self) -> int:
        """Read the topics that are there from their beginnings, all partitions; gives how many topics."""
        listing = self._consumer.list_topics(timeout=30).topics
        found = {name: topic for name, topic in listing.items() if name.startswith(self._prefix + ".")}
        places = [
            TopicPartition(name, number, OFFSET_BEGINNING)
            for name, topic in found.items()
            for number in topic.partitions
        ]
        self._consumer.assign(places)
        return len(found)

    def read_back(self) -> list[bytes]:
        command = self._kafka._java(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            "--bootstrap-server", self._kafka.bootstrap,
            "--include", re.escape(self._prefix + ".") + ".*",
            "--from-beginning",
            "--timeout-ms", "30000",  # joining the group, which the broker makes for it, is part of it
        )  # fmt: skip
        done = subprocess.run(command, cwd=self._kafka.folder, capture_output=True, timeout=180, check=False)
        assert b"Processed a total of" in done.stderr, done.stderr[-2000:]
        return done.stdout.splitlines()

    def _look(self) -> None:
        # What it says of brokers that are away may come before records that it has.
        while (record := self._consumer.poll(0.2)) is not None and (error := record.error()):
            if error.code() not in {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT}:
                raise KafkaException(error)
        if record is None:
            return
        place, offset = (record.topic(), record.partition()), record.offset()
        assert offset == self._next.get(place, 0), f"{place}: read {offset} after {self._next.get(place)}"
        self._next[place] = offset + 1
        self._add([record.value()])

    def close(self) -> None:
        super().close()
        self._consumer.close()


class Lake(FarEnd):
    """A bucket; down means that its server is stopped. An event is there when its object is listed."""

    pause_seconds = 0.5

    def __init__(self, server: S3Server, folder: str) -> None:
        super().__init__("s3")
        self._server = server
        self._folder = folder
        self._known: set[str] = set()
        self._files = pyarrow.fs.S3FileSystem(
            access_key=server.access_key,
            secret_key=server.secret_key,
            endpoint_override=server.endpoint.removeprefix("http://"),
            scheme="http",
            region=server.region,
            connect_timeout=2,
            request_timeout=10,
            retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )

    def settings(self) -> dict[str, Any]:
        return {
            "type": "s3",
            "url": f"s3://lake/{self._folder}",
            "endpoint": self._server.endpoint,
            "allow_http": True,
            "access_key_id": self._server.access_key,
            "secret_access_key": self._server.secret_key,
            "batch": {"max_wait_seconds": 1.0},
            "retry": {"max_seconds": 2.0},
        }

    def down(self) -> None:
        self._server.stop()

    def up(self) -> None:
        self._server.start()

    def read_back(self) -> list[bytes]:
        return [line for path in self._listed() for line in self._read(path)]

    def _look(self) -> None:
        try:
            for path in self._listed():
                if path not in self._known:
                    self._add(self._read(path))
                    self._known.add(path)
        except OSError:
            pass  # it is away; an object that was not read is new the next time

    def _listed(self) -> list[str]:
        """The objects, by resource and in the order in which they were written."""
        selector = pyarrow.fs.FileSelector(f"lake/{self._folder}", recursive=True, allow_not_found=True)
        found = [each.path for each in self._files.get_file_info(selector) if each.is_file]
        return sorted(path for path in found if path.endswith(".jsonl.zst"))

    def _read(self, path: str) -> list[bytes]:
        with self._files.open_input_stream(path, compression=None) as stream:
            return zstandard.ZstdDecompressor().decompress(stream.read()).splitlines()


class Records(FarEnd):
    """The Collector's file of OTLP JSON; down means that the Collector is stopped."""

    def __init__(self, collector: Collector) -> None:
        super().__init__("otlp")
        self._collector = collector
        self._tail = Tail(collector.output)

    def settings(self) -> dict[str, Any]:
        return {"type": "otlp", "endpoint": self._collector.endpoint, "retry": {"max_seconds": 2.0}}

    def down(self) -> None:
        self._collector.stop()

    def up(self) -> None:
        self._collector.start()

    def read_back(self) -> list[bytes]:
        """By the protocol's own definition, in which an unknown field is an error."""
        parsed = [json_format.Parse(line, LogsData()) for line in file_lines(self._collector.output)]
        return [
            record.body.string_value.encode()
            for data in parsed
            for each in data.resource_logs
            for scope in each.scope_logs
            for record in scope.log_records
        ]

    def _look(self) -> None:
        for line in self._tail.read():
            self._add(
                [
                    record["body"]["stringValue"].encode()
                    for each in json.loads(line)["resourceLogs"]
                    for scope in each["scopeLogs"]
                    for record in scope["logRecords"]
                ]
            )
