"""What happened while the exporter was down and the API server forgot: against etcd's own history."""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.exporting import Process, file_lines, wait_until
from tests.live.truth import etcd_history, judge
from tests.live.writer import Writer
from tests.testbed import Cluster

DOWN_SECONDS = 20
RESOURCES = ("configmaps", "pods", "deployments.apps", "widgets.example.com")
PREFIXES = {
    "configmaps": "/registry/configmaps/",
    "pods": "/registry/pods/",
    "deployments.apps": "/registry/deployments/",
    "widgets.example.com": "/registry/example.com/widgets/",
}


class Outage:
    """An exporter that is killed, and comes back after a writer and a restart of the API server."""

    def __init__(self, tmp_path: Path, cluster: Cluster, **settings: Any) -> None:
        self.name = f"recovery-{uuid.uuid4().hex[:8]}"
        self.cluster = cluster
        self.changes = tmp_path / "changes.jsonl"
        document = {
            "cluster": {"name": "live", "kubeconfig": str(cluster.api.kubeconfig()), **settings},
            "journal": {"path": str(tmp_path / "state")},
            "resources": [{"resource": resource, "namespaces": [self.name]} for resource in RESOURCES],
            "sinks": {"file": {"type": "file", "path": str(self.changes)}},
        }
        self.process = Process(tmp_path, document)

    def run(self) -> tuple[Any, list[dict[str, Any]]]:
        """The verdict, and what the gap events say."""
        count = DOWN_SECONDS * 100
        seed = random.randrange(1 << 30)
        writer = Writer(self.cluster.api, self.name, changes=count, per_second=120, seed=seed)
        writer.prepare()
        writer.wait_until_quiet()
        start = self.cluster.etcd.revision()
        self.process.start()
        wait_until(lambda: self.synced(1), seconds=30, what="the streams are synced")
        writer.start()
        time.sleep(2)
        self.process.kill()
        time.sleep(DOWN_SECONDS / 2)
        self.cluster.api.restart()
        writer.finish()
        writer.wait_until_quiet()
        self.cluster.api.restart()
        self.process.start()
        wait_until(lambda: self.synced(2), seconds=120, what=f"history is back\n{self.process.tail()}")
        truth = self.truth(start)
        wait_until(
            lambda: any(b"end-of-truth" in line for line in file_lines(self.changes)[-20:]),
            seconds=30,
            what="the watch goes on",
        )
        assert self.process.stop() == 0
        lines = file_lines(self.changes)
        gaps = [json.loads(line)["data"]["object"] for line in lines if b"stream.gap" in line]
        return judge(lines, truth, skip=("snapshot",)), gaps

    def synced(self, times: int) -> bool:
        found = sum(b"stream.synced" in line for line in file_lines(self.changes))
        return found >= times * len(RESOURCES)

    def truth(self, since: int) -> Any:
        path = f"/api/v1/namespaces/{self.name}/configmaps"
        status, _ = self.cluster.api.request("POST", path, {"metadata": {"name": "end-of-truth"}})
        assert status == 201
        prefixes = {resource: prefix + self.name + "/" for resource, prefix in PREFIXES.items()}
        end = f"/registry/configmaps/{self.name}/end-of-truth"
        history = etcd_history(self.cluster.etcd, prefixes, since=since, until_key=end)
        return {(resource, f"{self.name}/{key}"): versions for (resource, key), versions in history.items()}

    def cost(self) -> str:
        """What the exporter logged about the recovery, a line a stream."""
        said = re.findall(r"history was read back (.*)", self.process.log.read_text(errors="replace"))
        return "\n".join(said)


@pytest.fixture
def outages(tmp_path: Path, fresh_cluster: Cluster) -> Iterator[Any]:
    made: list[Outage] = []

    def make(**settings: Any) -> Outage:
        made.append(Outage(tmp_path, fresh_cluster, **settings))
        return made[-1]

    yield make
    for outage in made:
        outage.process.end()


def test_every_version_of_twenty_lost_seconds_comes_back(outages: Any) -> None:
    outage = outages(recover_scan_revisions=20_000)
    verdict, gaps = outage.run()
    print(f"\n{verdict}\n{outage.cost()}")
    assert verdict.flawless, verdict
    assert len(gaps) == len(RESOURCES)
    assert all(gap["complete"] for gap in gaps), gaps
    assert sum(gap["recovered"] for gap in gaps) > DOWN_SECONDS * 50


def test_in_a_long_gap_nothing_is_invented_and_its_event_says_that_something_may_be_missing(
    outages: Any,
) -> None:
    outage = outages()
    verdict, gaps = outage.run()
    print(f"\n{verdict}\n{outage.cost()}")
    assert not verdict.invented
    assert not verdict.out_of_order
    assert not any(gap["complete"] or gap["added"] or gap["modified"] or gap["deleted"] for gap in gaps), gaps
