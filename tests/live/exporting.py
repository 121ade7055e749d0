"""A real kexport process, and what its sinks hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.exporter import toml_of

_BEING_MADE = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""What a broker says of a topic that it is still making."""


class Process:
    """`kexport run` with a configuration, as an operator starts it."""

    def __init__(self, directory: Path, document: dict[str, Any]) -> None:
        self.config = directory / "config.toml"
        self.config.write_text(toml_of(document), encoding="utf-8")
        self.log = directory / "kexport.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._started_at = 0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._started_at = log.tell()
            self._child = subprocess.Popen(
                [sys.executable, "-m", "kexport", "run", "-c", str(self.config)], stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL, at any moment."""
        assert self._child
        assert self._child.poll() is None, f"it ended by itself: {self.tail()}"
        self._child.kill()
        self._child.wait()

    def stop(self) -> int:
        """SIGTERM, once it is up, for Python itself ends otherwise than kexport does; the exit code."""
        assert self._child
        wait_until(lambda: self._is_up() or self._has_ended(), seconds=90, what=f"it starts\n{self.tail()}")
        self._child.send_signal(signal.SIGTERM)
        return self._child.wait(60)

    def end(self) -> None:
        """Whatever happened: leave nothing behind."""
        if self._child and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def _is_up(self) -> bool:
        return b"exporting" in self.log.read_bytes()[self._started_at :]

    def _has_ended(self) -> bool:
        return self._child is None or self._child.poll() is not None

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Poll; fails with `what` did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def file_lines(path: Path) -> list[bytes]:
    """The complete lines of a sink's file."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


class Topics:
    """Everything in the topics of one prefix, read by a client of its own, from the beginning."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._prefix = prefix
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"truth-{os.getpid()}",
                "enable.auto.commit": False,
                "log_level": 0,  # a broker that is away is what these tests are about
            }
        )
        self._next: dict[tuple[str, int], int] = {}
        self.records: list[Any] = []

    def read(self) -> list[bytes]:
        """The values of all records so far, in order for each partition."""
        for topic, partition in self._partitions():
            self._read(topic, partition, self._end(topic, partition))
        return [record.value() for record in self.records]

    def _end(self, topic: str, partition: int) -> int:
        """Where the next record will be; 0 while the topic is being made."""
        try:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        except KafkaException as error:
            if error.args[0].code() not in _BEING_MADE:
                raise
            return 0
        return int(end)

    def _partitions(self) -> Iterable[tuple[str, int]]:
        for name, topic in self._consumer.list_topics(timeout=30).topics.items():
            if name.startswith(self._prefix):
                yield from ((name, partition) for partition in topic.partitions)

    def _read(self, topic: str, partition: int, end: int) -> None:
        start = self._next.get((topic, partition), 0)
        if start >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, start)])
        while start < end:
            record = self._consumer.poll(60)
            assert record is not None, f"{topic} {partition}: nothing after {start} of {end}"
            if record.error():
                raise KafkaException(record.error())
            self.records.append(record)
            start = record.offset() + 1
        self._next[topic, partition] = start

    def close(self) -> None:
        self._consumer.close()
