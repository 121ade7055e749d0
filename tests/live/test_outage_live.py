"""Far ends that go away: the broker for 90 seconds, the API server for a restart, history for good."""

from __future__ import annotations

import json
import random
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.live.exporting import Process, Topics, file_lines, wait_until
from tests.live.synced import all_synced, listings
from tests.live.truth import History, etcd_history, judge
from tests.live.writer import Writer
from tests.testbed import ApiServer, Cluster, Kafka

OUTAGE_SECONDS = 90
RESOURCES = ("configmaps", "pods", "deployments.apps", "widgets.example.com")
PREFIXES = {
    "configmaps": "/registry/configmaps/",
    "pods": "/registry/pods/",
    "deployments.apps": "/registry/deployments/",
    "widgets.example.com": "/registry/example.com/widgets/",
}


@pytest.fixture
def name() -> str:
    return f"outage-{uuid.uuid4().hex[:8]}"


def configured(tmp_path: Path, api: ApiServer, kafka: Kafka, name: str) -> Process:
    kafka_sink = {
        "type": "kafka", "bootstrap_servers": [kafka.bootstrap], "topic": name + ".{resource}",
        "retry": {"max_seconds": 5.0},
    }  # fmt: skip
    document = {
        "cluster": {"name": "live", "kubeconfig": str(api.kubeconfig())},
        "journal": {"path": str(tmp_path / "state")},
        "resources": [{"resource": resource, "namespaces": [name]} for resource in RESOURCES],
        "sinks": {"file": {"type": "file", "path": str(tmp_path / "changes.jsonl")}, "kafka": kafka_sink},
    }
    return Process(tmp_path, document)


@pytest.fixture
def process(tmp_path: Path, fresh_cluster: Cluster, fresh_kafka: Kafka, name: str) -> Iterator[Process]:
    process = configured(tmp_path, fresh_cluster.api, fresh_kafka, name)
    yield process
    process.end()


def _start(process: Process, changes: Path) -> None:
    """Return when all that exists is in the file."""
    process.start()
    wait_until(
        lambda: all_synced(file_lines(changes), len(RESOURCES)),
        seconds=120,
        what=f"the streams are synced\n{process.tail()}",
    )


def test_a_dead_broker_and_an_api_server_restart_lose_nothing(
    tmp_path: Path, fresh_cluster: Cluster, fresh_kafka: Kafka, process: Process, name: str
) -> None:
    changes = tmp_path / "changes.jsonl"
    writer = Writer(fresh_cluster.api, name, changes=4000, per_second=30, seed=random.randrange(1 << 30))
    writer.prepare()
    writer.wait_until_quiet()
    start = fresh_cluster.etcd.revision()
    topics = Topics(fresh_kafka.bootstrap, name)
    _start(process, changes)
    writer.start()
    time.sleep(5)
    fresh_kafka.stop()
    began = time.monotonic()
    time.sleep(OUTAGE_SECONDS / 2)
    fresh_cluster.api.restart()
    time.sleep(max(0.0, began + OUTAGE_SECONDS - time.monotonic()))
    lag = _file_lag(fresh_cluster, writer, changes)
    print(f"\nafter {OUTAGE_SECONDS} s without a broker the file was {lag:.2f} s behind the API server")
    fresh_kafka.start()
    writer.finish()
    writer.wait_until_quiet()
    truth = _truth(fresh_cluster, name, since=start)

    def lost() -> int:
        return sum(len(judge(lines, truth).lost) for lines in (file_lines(changes), topics.read()))

    wait_until(lambda: not lost(), seconds=180, what=f"everything arrives\n{process.tail()}")
    assert process.stop() == 0
    for sink, lines in {"file": file_lines(changes), "kafka": topics.read()}.items():
        verdict = judge(_until_the_end(lines, truth), truth, skip=("snapshot",))
        gaps = sum(b"stream.gap" in line for line in lines)
        print(f"{sink}: {verdict}; gap events {gaps}")
        assert verdict.flawless, verdict
    topics.close()
    assert lag < 5


def _file_lag(cluster: Cluster, writer: Writer, changes: Path) -> float:
    """Seconds until a change made now is in the file, as a rule: one probe may meet a busy moment."""
    seconds = [_probe(cluster, writer, changes, f"lag-probe-{number}") for number in range(4)]
    return statistics.median(seconds[1:])


def _probe(cluster: Cluster, writer: Writer, changes: Path, name: str) -> float:
    status, _ = cluster.api.request("POST", writer.path("configmaps"), {"metadata": {"name": name}})
    assert status == 201
    made = time.monotonic()
    wait_until(lambda: name.encode() in changes.read_bytes(), seconds=60, what="the watch goes on")
    return time.monotonic() - made


def _truth(cluster: Cluster, name: str, *, since: int) -> History:
    path = f"/api/v1/namespaces/{name}/configmaps"
    status, _ = cluster.api.request("POST", path, {"metadata": {"name": "end-of-truth"}})
    assert status == 201
    prefixes = {resource: prefix + name + "/" for resource, prefix in PREFIXES.items()}
    history = etcd_history(
        cluster.etcd, prefixes, since=since, until_key=f"/registry/configmaps/{name}/end-of-truth"
    )
    return {(resource, f"{name}/{key}"): versions for (resource, key), versions in history.items()}


def _until_the_end(lines: Sequence[bytes], truth: History) -> list[bytes]:
    """Without what the controllers did behind the truth's last version."""
    last = max(version for versions in truth.values() for version in versions)
    return [line for line in lines if int(json.loads(line)["sequence"]) <= last]


def test_after_history_is_gone_consumer_and_cluster_agree(
    tmp_path: Path, fresh_cluster: Cluster, fresh_kafka: Kafka, process: Process, name: str
) -> None:
    changes = tmp_path / "changes.jsonl"
    writer = Writer(fresh_cluster.api, name, changes=600, per_second=150, seed=1)
    writer.prepare()
    _start(process, changes)
    writer.start()
    began = len(file_lines(changes))
    wait_until(lambda: len(file_lines(changes)) >= began + 60, seconds=60, what="it knows some objects")
    process.kill()
    writer.finish()
    writer.wait_until_quiet()
    fresh_cluster.etcd.compact()
    fresh_cluster.api.restart()
    topics = Topics(fresh_kafka.bootstrap, name)
    known = listings(file_lines(changes))
    process.start()
    wait_until(
        lambda: all_synced(file_lines(changes), len(RESOURCES), since=known),
        seconds=120,
        what=f"the streams are compared\n{process.tail()}",
    )

    def agree() -> bool:
        want = _cluster_state(fresh_cluster.api, name)
        return all(_consumer_state(lines) == want for lines in (topics.read(), file_lines(changes)))

    wait_until(agree, seconds=60, what=f"both hold the final state\n{process.tail()}")
    assert process.stop() == 0
    events = [json.loads(line) for line in file_lines(changes)]
    gaps = [event["data"]["object"] for event in events if event["type"].endswith(".gap")]
    inferred = [event for event in events if event["origin"] == "resync" and ".object." in event["type"]]
    deleted = [event for event in inferred if event["type"].endswith(".deleted")]
    print(f"\ngaps {len(gaps)}; inferred {len(inferred)}, of which deleted {len(deleted)}; states equal")
    # What was compacted is one gap a stream; what the server forgot after that is another, without a loss.
    lost = [gap for gap in gaps if not gap["complete"]]
    assert sorted(gap["stream"] for gap in lost) == sorted({gap["stream"] for gap in gaps})
    assert len(lost) == len(RESOURCES)
    assert deleted
    assert sum(gap["added"] + gap["modified"] + gap["deleted"] for gap in gaps) == len(inferred)
    topics.close()


def _cluster_state(api: ApiServer, name: str) -> dict[str, str]:
    paths = {
        "configmaps": f"/api/v1/namespaces/{name}/configmaps",
        "pods": f"/api/v1/namespaces/{name}/pods",
        "deployments.apps": f"/apis/apps/v1/namespaces/{name}/deployments",
        "widgets.example.com": f"/apis/example.com/v1/namespaces/{name}/widgets",
    }
    return {
        f"{resource} {item['metadata']['name']}": _canonical(item)
        for resource, path in paths.items()
        for item in json.loads(api.request("GET", path)[1])["items"]
    }


def _consumer_state(lines: Sequence[bytes]) -> dict[str, str]:
    """What somebody who only reads the events believes to exist."""
    state: dict[str, str] = {}
    for event in map(json.loads, lines):
        key = f"{event['resource']} {event.get('objname')}"
        if event["type"].endswith((".added", ".modified")):
            state[key] = _canonical(event["data"]["object"])
        elif event["type"].endswith(".deleted"):
            state.pop(key, None)
    return state


def _canonical(item: dict[str, Any]) -> str:
    body = {key: value for key, value in item.items() if key not in {"kind", "apiVersion"}}
    body["metadata"] = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return json.dumps(body, sort_keys=True)


def test_restart_to_first_delivered_change(
    tmp_path: Path, fresh_cluster: Cluster, fresh_kafka: Kafka, process: Process, name: str
) -> None:
    changes = tmp_path / "changes.jsonl"
    writer = Writer(fresh_cluster.api, name, changes=0, per_second=1, seed=1)
    writer.prepare()
    _start(process, changes)
    seconds = []
    for number in range(10):
        process.kill()
        body = {"metadata": {"name": f"probe-{number}"}}
        assert fresh_cluster.api.request("POST", writer.path("configmaps"), body)[0] == 201
        began = time.monotonic()
        process.start()
        needle = f"probe-{number}".encode()
        wait_until(lambda needle=needle: needle in changes.read_bytes(), seconds=60, what="it arrives")  # type: ignore[misc]
        seconds.append(time.monotonic() - began)
    print(f"\nrestart to first delivered change: p50 of 10 {statistics.median(seconds):.2f} s")
