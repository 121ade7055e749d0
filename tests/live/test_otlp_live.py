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
from tests.live.synced import all_synced
from tests.live.truth import PATHS, Witness, judge
from tests.live.writer import Writer
from tests.testbed import Cluster, Collector

OUTAGE_SECONDS = 5.0


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
    with Witness(cluster.api, name) as witness:
        process.start()
        wait_until(
            lambda: all_synced(bodies(collector), len(PATHS)),
            seconds=120,
            what="the four streams are synced",
        )
        writer.start()
        disturb(process, collector, random.Random(seed), kills=kills)
        writer.finish()
        writer.wait_until_quiet()
        truth = witness.history()
    wait_until(
        lambda: not judge(bodies(collector), truth, skip=("snapshot",)).lost,
        seconds=120,
        what=f"everything arrives\n{process.tail()}",
    )
    assert process.stop() == 0
    verdict = judge(bodies(collector), truth, skip=("snapshot",))
    print(f"otlp, {protocol}: {kills} kills, {OUTAGE_SECONDS:g} s without the Collector; {verdict}")
    assert verdict.flawless, verdict
    assert writer.made >= changes


def disturb(process: Process, collector: Collector, chance: random.Random, *, kills: int) -> None:
    """Half of the kills while the Collector is up, one within its outage, the others behind it."""
    for kill in range(kills):
        time.sleep(chance.uniform(0.5, 2.5))
        if kill == kills // 2:
            collector.stop()
            time.sleep(OUTAGE_SECONDS / 2)
        process.kill()
        process.start()
        if kill == kills // 2:
            time.sleep(OUTAGE_SECONDS / 2)
            collector.start()


def bodies(collector: Collector) -> list[bytes]:
    """The bodies of all records that the Collector has exported, in order."""
    return [
        record["body"]["stringValue"].encode()
        for line in file_lines(collector.output)
        for each in json.loads(line)["resourceLogs"]
        for scope in each["scopeLogs"]
        for record in scope["logRecords"]
    ]
