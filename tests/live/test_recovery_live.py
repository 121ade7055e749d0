"""What happened while the exporter was down and the API server forgot: against etcd's own history."""

from __future__ import annotations

import json
import os
import random
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from tests.live.exporting import Process, file_lines, wait_until
from tests.live.synced import Listing, all_synced, listings
from tests.live.truth import etcd_history, judge
from tests.live.writer import Writer
from tests.testbed import Cluster

DOWN_SECONDS = int(os.environ.get("KEXPORT_DOWN_SECONDS", "20"))
pytestmark = pytest.mark.timeout(900 + 2 * DOWN_SECONDS)
PER_SECOND = 200  # over both writers, if the machine can
RESOURCES = ("configmaps", "pods", "deployments.apps", "widgets.example.com")
PREFIXES = {
    "configmaps": "/registry/configmaps/",
    "pods": "/registry/pods/",
    "deployments.apps": "/registry/deployments/",
    "widgets.example.com": "/registry/example.com/widgets/",
}


def cpu_seconds(name: str, mark: str) -> float:
    """What processes of this name have used, those whose command line has the mark."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            named = (process / "comm").read_text().strip() == name
            if named and mark in (process / "cmdline").read_text():
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue  # it has ended meanwhile
    return ticks / os.sysconf("SC_CLK_TCK")


class Twin(Writer):
    """A second writer in the same namespace, with objects of its own."""

    @override
    def path(self, resource: str, name: str = "") -> str:
        return super().path(resource, name and f"twin-{name}")

    @override
    def _body(self, resource: str, name: str) -> dict[str, Any]:
        return super()._body(resource, f"twin-{name}")


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
        writers = self._writers()
        writers[0].prepare()
        writers[0].wait_until_quiet()
        start = self.cluster.etcd.revision()
        self.process.start()
        wait_until(self.synced, seconds=120, what=f"the streams are synced\n{self.process.tail()}")
        for writer in writers:
            writer.start()
        time.sleep(2)
        self.process.kill()
        time.sleep(DOWN_SECONDS / 2)
        self.cluster.api.restart()
        for writer in writers:
            writer.finish()
        writers[0].wait_until_quiet()
        self.cluster.api.restart()
        self._recover()
        truth = self.truth(start)
        wait_until(
            lambda: any(b"end-of-truth" in line for line in file_lines(self.changes)),
            seconds=120,
            what="the watch goes on",
        )
        assert self.process.stop() == 0
        lines = file_lines(self.changes)
        gaps = [json.loads(line)["data"]["object"] for line in lines if b"stream.gap" in line]
        last = max(version for versions in truth.values() for version in versions)
        told = [line for line in lines if int(json.loads(line)["sequence"]) <= last]  # controllers go on
        return judge(told, truth, skip=("snapshot",)), gaps

    def _writers(self) -> list[Writer]:
        seed = int(os.environ.get("KEXPORT_SEED") or random.randrange(1 << 30))
        print(f"\nseed {seed}")
        return [
            kind(self.cluster.api, self.name, changes=DOWN_SECONDS * PER_SECOND // 2,
                 per_second=PER_SECOND / 2, seed=seed + number)
            for number, kind in enumerate((Writer, Twin))
        ]  # fmt: skip

    def _recover(self) -> None:
        """Start it again; what that takes of the servers' time."""
        marks = {
            "kube-apiserver": str(self.cluster.api.folder), "etcd": self.cluster.etcd.client_url,
            "python": str(self.process.config),
        }  # fmt: skip
        cost = {name: cpu_seconds(name, mark) for name, mark in marks.items()}
        known = listings(file_lines(self.changes))
        began = time.monotonic()
        self.process.start()
        wait_until(lambda: self.synced(known), seconds=240, what=f"history is back\n{self.process.tail()}")
        spent = {name: round(cpu_seconds(name, marks[name]) - before, 1) for name, before in cost.items()}
        print(f"recovered in {time.monotonic() - began:.1f} s; CPU seconds {spent}")

    def synced(self, since: frozenset[Listing] = frozenset()) -> bool:
        return all_synced(file_lines(self.changes), len(RESOURCES), since=since)

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


def test_every_version_of_a_gap_comes_back_whatever_lived_in_it(outages: Any) -> None:
    """With the settings that everybody has; KEXPORT_DOWN_SECONDS=180 is the long form."""
    outage = outages()
    verdict, gaps = outage.run()
    print(f"{verdict}\n{outage.cost()}")
    assert verdict.flawless, verdict
    assert len(gaps) >= len(RESOURCES)  # a long recovery may outlive the watch cache: then another follows
    assert all(gap["complete"] for gap in gaps), gaps
    assert sum(gap["recovered"] for gap in gaps) > DOWN_SECONDS * 50


def test_without_a_look_at_each_version_nothing_is_invented_and_its_event_says_that_some_may_be_missing(
    outages: Any,
) -> None:
    outage = outages(recover_scan_revisions=0)
    verdict, gaps = outage.run()
    print(f"{verdict}\n{outage.cost()}")
    assert not verdict.invented
    assert not verdict.out_of_order
    assert not any(gap["complete"] or gap["added"] or gap["modified"] or gap["deleted"] for gap in gaps), gaps
