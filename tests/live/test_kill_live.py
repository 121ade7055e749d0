"""kexport on the real API server and the real Kafka, killed with SIGKILL again and again."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.exporting import Process, Topics, file_lines, wait_until
from tests.live.truth import History, RawWatch, judge
from tests.live.writer import Writer
from tests.testbed import Cluster, Kafka

KILLS = 26
CHANGES = 5200
PATHS = {
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "pods": "/api/v1/namespaces/{}/pods",
    "deployments.apps": "/apis/apps/v1/namespaces/{}/deployments",
    "widgets.example.com": "/apis/example.com/v1/namespaces/{}/widgets",
}


@pytest.fixture
def name() -> str:
    return f"kill-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def process(tmp_path: Path, cluster: Cluster, kafka: Kafka, name: str) -> Iterator[Process]:
    document = {
        "cluster": {"name": "live", "kubeconfig": str(cluster.api.kubeconfig())},
        "journal": {"path": str(tmp_path / "state")},
        "resources": [{"resource": resource, "namespaces": [name]} for resource in PATHS],
        "sinks": {
            "file": {"type": "file", "path": str(tmp_path / "changes.jsonl")},
            "kafka": {
                "type": "kafka",
                "bootstrap_servers": [kafka.bootstrap],
                "topic": name + ".{resource}",
            },
        },
    }
    process = Process(tmp_path, document)
    yield process
    process.end()


def test_nothing_is_lost_or_out_of_order_over_many_kills(
    tmp_path: Path, cluster: Cluster, kafka: Kafka, process: Process, name: str
) -> None:
    seed = random.randrange(1 << 30)
    print(f"\nseed {seed}")
    writer = Writer(cluster.api, name, changes=CHANGES, per_second=90, seed=seed)
    writer.prepare()
    writer.wait_until_quiet()
    watches = [RawWatch(cluster.api, resource, path.format(name)) for resource, path in PATHS.items()]
    topics = Topics(kafka.bootstrap, name)
    process.start()
    wait_until(
        lambda: sum(b"stream.synced" in line for line in file_lines(tmp_path / "changes.jsonl")) == 4,
        seconds=30,
        what="the four streams are synced",
    )
    writer.start()
    kills = _kill_often(process, writer, random.Random(seed))
    writer.finish()
    writer.wait_until_quiet()
    truth: History = {thing: versions for watch in watches for thing, versions in watch.history.items()}
    snapshot = {"snapshot"}  # what there was before the raw watches began

    def verdicts() -> list[tuple[str, object]]:
        held = {"file": file_lines(tmp_path / "changes.jsonl"), "kafka": topics.read()}
        return [(sink, judge(lines, truth, skip=tuple(snapshot))) for sink, lines in held.items()]

    wait_until(
        lambda: not any(verdict.lost for _, verdict in verdicts()),  # type: ignore[attr-defined]
        seconds=60,
        what=f"everything arrives: {[str(verdict) for _, verdict in verdicts()]}\n{process.tail()}",
    )
    assert process.stop() == 0
    for watch in watches:
        watch.close()
    for sink, verdict in verdicts():
        print(f"{sink}: {kills} kills; {verdict}")
        assert verdict.flawless, verdict  # type: ignore[attr-defined]
    topics.close()
    assert writer.made >= 5000
    assert kills >= 25


def _kill_often(process: Process, writer: Writer, chance: random.Random) -> int:
    """Kill and start again at random moments for as long as the writer writes; how often."""
    kills = 0
    while writer.is_alive() or kills < KILLS:
        time.sleep(chance.uniform(0.4, 3.4))
        process.kill()
        process.start()
        kills += 1
    return kills
