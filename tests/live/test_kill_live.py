"""kexport on the real API server and the real Kafka, killed with SIGKILL again and again."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.exporting import Process, Topics, file_lines, wait_until
from tests.live.synced import all_synced
from tests.live.truth import PATHS, Verdict, Witness, judge
from tests.live.writer import Writer
from tests.testbed import Cluster, Kafka

KILLS = 26
CHANGES = 5200


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
    topics = Topics(kafka.bootstrap, name)
    with Witness(cluster.api, name) as witness:
        process.start()
        wait_until(
            lambda: all_synced(file_lines(tmp_path / "changes.jsonl"), 4),
            seconds=120,
            what="the four streams are synced",
        )
        writer.start()
        kills = _kill_often(process, writer, random.Random(seed))
        writer.finish()
        writer.wait_until_quiet()
        truth = witness.history()

    def verdicts() -> dict[str, Verdict]:
        held = {"file": file_lines(tmp_path / "changes.jsonl"), "kafka": topics.read()}
        # The first listing tells what there was before the witness began.
        return {sink: judge(lines, truth, skip=("snapshot",)) for sink, lines in held.items()}

    wait_until(
        lambda: not any(verdict.lost for verdict in verdicts().values()),
        seconds=120,
        what=f"everything arrives\n{process.tail()}",
    )
    assert process.stop() == 0
    for sink, verdict in verdicts().items():
        print(f"{sink}: {kills} kills; {verdict}")
        assert verdict.flawless, verdict
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
