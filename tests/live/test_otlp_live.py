"""kexport on the real API server and a real OpenTelemetry Collector: killed, and without it for a while."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.exporting import Process, file_lines, wait_until
from tests.live.truth import History, RawWatch, judge
from tests.live.writer import Writer
from tests.testbed import Cluster, Collector, NotBuiltError

OUTAGE_SECONDS = 5.0
PATHS = {
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "pods": "/api/v1/namespaces/{}/pods",
    "deployments.apps": "/apis/apps/v1/namespaces/{}/deployments",
    "widgets.example.com": "/apis/example.com/v1/namespaces/{}/widgets",
}


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    try:
        made = Collector(tmp_path / "collector")
    except NotBuiltError as error:
        pytest.fail(str(error), pytrace=False)
    with made as running:
        yield running


@pytest.fixture
def name() -> str:
    return f"otlp-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def process(
    tmp_path: Path, cluster: Cluster, collector: Collector, name: str, protocol: str
) -> Iterator[Process]:
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.endpoint
    sink = {"type": "otlp", "endpoint": endpoint, "protocol": protocol, "retry": {"max_seconds": 2.0}}
    document = {
        "cluster": {"name": "live", "kubeconfig": str(cluster.api.kubeconfig())},
        "journal": {"path": str(tmp_path / "state")},
        "resources": [{"resource": resource, "namespaces": [name]} for resource in PATHS],
        "sinks": {"otel": sink},
    }
    process = Process(tmp_path, document)
    yield process
    process.end()


@pytest.mark.parametrize(("protocol", "kills", "changes"), [("http/protobuf", 6, 1000), ("grpc", 3, 400)])
def test_nothing_is_lost_over_kills_and_a_collector_that_is_away(
    cluster: Cluster,
    collector: Collector,
    process: Process,
    name: str,
    protocol: str,
    kills: int,
    changes: int,
) -> None:
    seed = random.randrange(1 << 30)
    print(f"\nseed {seed}")
    writer = Writer(cluster.api, name, changes=changes, per_second=60, seed=seed)
    writer.prepare()
    writer.wait_until_quiet()
    watches = [RawWatch(cluster.api, resource, path.format(name)) for resource, path in PATHS.items()]
    process.start()
    wait_until(
        lambda: sum(b"stream.synced" in body for body in bodies(collector)) == len(PATHS),
        seconds=30,
        what="the four streams are synced",
    )
    writer.start()
    logged = disturb(process, collector, random.Random(seed), kills=kills)
    writer.finish()
    writer.wait_until_quiet()
    truth: History = {thing: versions for watch in watches for thing, versions in watch.history.items()}
    wait_until(
        lambda: not judge(bodies(collector), truth, skip=("snapshot",)).lost,
        seconds=30,
        what=f"everything arrives\n{process.tail()}",
    )
    # All may have arrived before the last one of them came up, and a SIGTERM so early simply ends it.
    wait_until(
        lambda: b"exporting" in process.log.read_bytes()[logged:],
        seconds=30,
        what=f"the last start is through\n{process.tail()}",
    )
    assert process.stop() == 0
    for watch in watches:
        watch.close()
    verdict = judge(bodies(collector), truth, skip=("snapshot",))
    print(f"otlp, {protocol}: {kills} kills, {OUTAGE_SECONDS:g} s without the Collector; {verdict}")
    assert verdict.flawless, verdict
    assert writer.made >= changes


def disturb(process: Process, collector: Collector, chance: random.Random, *, kills: int) -> int:
    """Half of the kills while the Collector is up, one within its outage, the others behind it.

    Gives the length that the log had before the last start.
    """
    logged = 0
    for kill in range(kills):
        time.sleep(chance.uniform(0.5, 2.5))
        if kill == kills // 2:
            collector.stop()
            time.sleep(OUTAGE_SECONDS / 2)
        process.kill()
        logged = process.log.stat().st_size
        process.start()
        if kill == kills // 2:
            time.sleep(OUTAGE_SECONDS / 2)
            collector.start()
    return logged


def bodies(collector: Collector) -> list[bytes]:
    """The bodies of all records that the Collector has exported, in order."""
    return [
        record["body"]["stringValue"].encode()
        for line in file_lines(collector.output)
        for each in json.loads(line)["resourceLogs"]
        for scope in each["scopeLogs"]
        for record in scope["logRecords"]
    ]
