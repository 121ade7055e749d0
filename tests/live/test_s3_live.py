"""The object storage sink on a real S3 server: kexport killed again and again, the server away for a while.

What is stored is read back by Apache Arrow's own S3 client, which shares nothing with the sink's.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.fs
import pytest
import zstandard
from kexport_s3.config import S3Config
from kexport_s3.sink import S3Sink

from kexport.sink import SinkContext
from kexport.telemetry import get_log
from kexport.testing import make_event
from tests.exporter import toml_of
from tests.live.exporting import Process, wait_until
from tests.live.synced import all_synced
from tests.live.truth import PATHS, Witness, judge
from tests.live.writer import Writer
from tests.testbed import Cluster, S3Server

CHANGES = 1000
OUTAGE_SECONDS = 5


@pytest.fixture
def name() -> str:
    return f"lake-{uuid.uuid4().hex[:8]}"


def settings(s3: S3Server, folder: str, **changes: Any) -> dict[str, Any]:
    return {
        "url": f"s3://lake/{folder}",
        "endpoint": s3.endpoint,
        "allow_http": True,
        "access_key_id": s3.access_key,
        "secret_access_key": s3.secret_key,
        **changes,
    }


def configuration(
    tmp_path: Path, cluster: Cluster, namespace: str, **sinks: dict[str, Any]
) -> dict[str, Any]:
    engine = {
        "type": "s3",
        "batch": {"max_events": 100, "max_wait_seconds": 0.5},
        "retry": {"max_seconds": 1.0},
    }
    return {
        "cluster": {"name": "live", "kubeconfig": str(cluster.api.kubeconfig())},
        "journal": {"path": str(tmp_path / "state")},
        "resources": [{"resource": resource, "namespaces": [namespace]} for resource in PATHS],
        "sinks": {sink: {**engine, **each} for sink, each in sinks.items()},
    }


class Reader:
    """The bucket through Arrow's client."""

    def __init__(self, s3: S3Server) -> None:
        self._files = pyarrow.fs.S3FileSystem(
            access_key=s3.access_key,
            secret_key=s3.secret_key,
            endpoint_override=s3.endpoint.removeprefix("http://"),
            scheme="http",
            region=s3.region,
        )

    def names(self, folder: str) -> list[str]:
        selector = pyarrow.fs.FileSelector(f"lake/{folder}", recursive=True, allow_not_found=True)
        found = (each.path for each in self._files.get_file_info(selector) if each.is_file)
        return sorted(path for path in found if not path.endswith("/_kexport_check"))

    def lines(self, folder: str) -> list[bytes]:
        """All events of the packed JSON lines, in the order of the objects' names."""
        lines: list[bytes] = []
        for path in self.names(folder):
            with self._files.open_input_stream(path, compression=None) as stream:
                lines += zstandard.ZstdDecompressor().decompress(stream.read()).splitlines()
        return lines

    def rows(self, folder: str) -> list[bytes]:
        """The same of Parquet, read as one data set with partitions, as a query engine does."""
        table = pyarrow.dataset.dataset(
            f"lake/{folder}", filesystem=self._files, format="parquet", partitioning="hive"
        ).to_table()
        assert {"dt", "hour"} <= set(table.column_names)
        return [json.dumps(row, default=str).encode() for row in table.to_pylist()]

    def held(self) -> dict[str, list[bytes]]:
        """What came in either form."""
        return {"lines": self.lines("lines"), "table": self.rows("table")}


def test_nothing_is_lost_or_out_of_order_over_kills_and_an_outage(
    tmp_path: Path, cluster: Cluster, s3: S3Server, name: str
) -> None:
    seed = random.randrange(1 << 30)
    print(f"\nseed {seed}")
    sinks = {"lake": settings(s3, "lines"), "table": settings(s3, "table", format="parquet")}
    process = Process(tmp_path, configuration(tmp_path, cluster, name, **sinks))
    reader = Reader(s3)
    writer = Writer(cluster.api, name, changes=CHANGES, per_second=45, seed=seed)
    writer.prepare()
    writer.wait_until_quiet()
    with ExitStack() as stack:
        stack.callback(process.end)
        witness = stack.enter_context(Witness(cluster.api, name))
        process.start()
        wait_until(
            lambda: all_synced(reader.lines("lines"), len(PATHS)),
            seconds=120,
            what=f"the streams are synced\n{process.tail()}",
        )
        writer.start()
        kills = _trouble(process, s3, writer, random.Random(seed))
        writer.finish()
        writer.wait_until_quiet()
        truth = witness.history()
        wait_until(
            lambda: not any(judge(lines, truth).lost for lines in reader.held().values()),
            seconds=120,
            what=f"everything arrives\n{process.tail()}",
        )
        assert process.stop() == 0
    for folder, lines in reader.held().items():
        verdict = judge(lines, truth, skip=("snapshot",))
        objects = len(reader.names(folder))
        print(f"{folder}: {objects} objects, {kills} kills, {OUTAGE_SECONDS} s without a server; {verdict}")
        assert verdict.flawless, verdict
    assert kills >= 5


def _trouble(process: Process, s3: S3Server, writer: Writer, chance: random.Random) -> int:
    """Kill and start kexport while the writer writes: at random, with the server away or stuck too."""
    kills = 0
    for server in ("up", "stuck", "up", "away", "stuck", "up"):
        if server == "stuck":  # what was sent before the kill is stored after it, when nobody waits any more
            s3.pause()
            time.sleep(1.5)
        elif server == "away":
            s3.stop()
            time.sleep(OUTAGE_SECONDS / 2)
        else:
            time.sleep(chance.uniform(0.8, 2.5))
        process.kill()
        if server == "stuck":
            s3.resume()
        process.start()
        kills += 1
        if server == "away":
            time.sleep(OUTAGE_SECONDS / 2)
            _until_missed(process)
            s3.start()
        time.sleep(chance.uniform(1, 1.5))
    assert writer.error is None
    return kills


def _until_missed(process: Process) -> None:
    wait_until(
        lambda: b"cannot be reached" in process.log.read_bytes(),
        seconds=60,
        what=f"kexport says that the server is away\n{process.tail()}",
    )


async def test_a_batch_that_is_repeated_by_another_process_is_the_same_object(s3: S3Server) -> None:
    reader, events = Reader(s3), [make_event(number) for number in range(1, 500)]
    for _ in range(3):
        context = SinkContext(name="lake", cluster="live", log=get_log("test"))
        sink = S3Sink(S3Config(**settings(s3, "again")), context)
        await sink.open()
        await sink.write(events)
        await sink.close()
    assert len(reader.names("again")) == 1
    assert reader.lines("again") == [event.line for event in events]


@pytest.mark.parametrize(
    ("changes", "says", "code"),
    [
        ({}, "sinks.lake", 0),
        ({"url": "s3://pond/x"}, "no such bucket: s3://pond/x (NoSuchBucket", 2),
        ({"access_key_id": "nobody"}, "are refused (XAdminUserNotFound", 2),
        ({"secret_access_key": "wrong"}, "are refused (SignatureDoesNotMatch", 2),
        ({"region": "eu-west-1"}, "is in another region (AuthorizationHeaderMalformed", 2),
        ({"endpoint": "http://127.0.0.1:1"}, "cannot be reached", 1),
    ],
)
def test_check_says_what_is_wrong(
    tmp_path: Path, cluster: Cluster, s3: S3Server, changes: dict[str, str], says: str, code: int
) -> None:
    document = configuration(tmp_path, cluster, "default", lake=settings(s3, "check", **changes))
    document["resources"] = [{"resource": "configmaps"}]
    config = tmp_path / "config.toml"
    config.write_text(toml_of(document), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "kexport", "check", "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout
    assert not changes or s3.secret_key not in done.stdout
