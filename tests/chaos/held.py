"""What each sink holds, read as it comes by clients that share nothing with the sinks' own."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow.fs
import zstandard
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.testbed import Kafka, S3Server


class _Attributes(msgspec.Struct):
    type: str
    resource: str = ""
    resourceversion: str = ""


_attributes = msgspec.json.Decoder(_Attributes)


class Held(threading.Thread):
    """Follows one sink: `newest` has the last version of each resource, `lines` every event in its order."""

    def __init__(self, name: str, *, every_seconds: float) -> None:
        super().__init__(name=f"held {name}", daemon=True)
        self.sink = name
        self.newest: dict[str, int] = defaultdict(int)
        self.lines: list[bytes] = []
        self.synced = 0
        self.error: BaseException | None = None
        self._every_seconds = every_seconds
        self._ending = threading.Event()

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                self._take(self._news())
                self._ending.wait(self._every_seconds)
        except BaseException as error:  # noqa: BLE001  (told to the thread that asks)
            self.error = error

    def check(self) -> None:
        """Raises what ended the reading."""
        if self.error:
            raise AssertionError(f"what the sink {self.sink} holds can't be read") from self.error

    def close(self) -> None:
        self._ending.set()
        if self.ident:
            self.join(30)

    def whole(self) -> Sequence[bytes]:
        """Everything in the sink, once nothing is written any more."""
        return list(self.lines)

    def _news(self) -> Iterable[bytes]:
        raise NotImplementedError

    def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            event = _attributes.decode(line)
            if event.type.startswith("io.kexport.object."):
                self.newest[event.resource] = max(self.newest[event.resource], int(event.resourceversion))
            elif event.type == "io.kexport.stream.synced":
                self.synced += 1
            self.lines.append(line)


class HeldFile(Held):
    """The file sink's file, which must not rotate."""

    def __init__(self, path: Path) -> None:
        super().__init__("file", every_seconds=0.1)
        self._path = path
        self._read = 0

    def _news(self) -> Iterable[bytes]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return whole.split(b"\n") if newline else []

    def whole(self) -> Sequence[bytes]:
        """From its beginning: what was read while a crashed exporter's half line was there is no evidence."""
        return self._path.read_bytes().split(b"\n")[:-1]


class HeldTopics(Held):
    """Topics of one partition each, which it makes; read from the broker's own address, not the proxy's."""

    def __init__(self, kafka: Kafka, topics: Sequence[str]) -> None:
        super().__init__("kafka", every_seconds=0.0)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for made in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
            made.result(30)
        settings = {"bootstrap.servers": kafka.bootstrap, "group.id": "truth", "enable.auto.commit": False}
        # A broker that is away is what these runs are about, and it should be found again soon.
        settings |= {"log_level": 0, "reconnect.backoff.max.ms": 500}
        self._consumer = Consumer(settings)
        self._consumer.assign([TopicPartition(topic, 0, 0) for topic in topics])

    def _news(self) -> Iterable[bytes]:
        records = self._consumer.consume(500, timeout=0.2)
        return [value for record in records if not record.error() and (value := record.value())]

    def close(self) -> None:
        super().close()
        self._consumer.close()


class HeldObjects(Held):
    """A bucket: followed in the server's own folder, and in the end read through the server."""

    def __init__(self, s3: S3Server, bucket: str, folder: Path) -> None:
        super().__init__("s3", every_seconds=1.0)
        self._s3 = s3
        self._bucket = bucket
        self._folder = folder
        self._seen: set[Path] = set()

    def _news(self) -> Iterable[bytes]:
        try:
            found = set(self._folder.rglob("*.jsonl.zst"))
        except OSError:
            return  # a folder has gone while it was looked into
        for path in sorted(found - self._seen):
            try:
                lines = zstandard.ZstdDecompressor().decompress(path.read_bytes()).splitlines()
            except (OSError, zstandard.ZstdError):
                continue  # it is just being stored
            self._seen.add(path)
            yield from lines

    def whole(self) -> Sequence[bytes]:
        """In the order of the objects' names, which is the order of events."""
        files = pyarrow.fs.S3FileSystem(
            access_key=self._s3.access_key,
            secret_key=self._s3.secret_key,
            endpoint_override=self._s3.endpoint.removeprefix("http://"),
            scheme="http",
            region=self._s3.region,
        )
        selector = pyarrow.fs.FileSelector(self._bucket, recursive=True)
        lines: list[bytes] = []
        for path in sorted(each.path for each in files.get_file_info(selector) if each.is_file):
            if path.endswith(".jsonl.zst"):
                with files.open_input_stream(path, compression=None) as stream:
                    lines += zstandard.ZstdDecompressor().decompress(stream.read()).splitlines()
        return lines


def caught_up(held: Held, wanted: dict[str, int]) -> bool:
    return all(held.newest[resource] >= version for resource, version in wanted.items())


def wait_for_synced(held: Held, count: int, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while held.synced < count:
        held.check()
        assert time.monotonic() < deadline, f"{held.sink}: {held.synced} of {count} streams synced"
        time.sleep(0.05)
