"""The metrics over OTLP to a real OpenTelemetry Collector that is away for a while; /metrics beside them."""

from __future__ import annotations

import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kexport.metrics import OPENMETRICS
from tests.live.exporting import Process, file_lines, wait_until
from tests.otlp import Series, resource, scraped, sent
from tests.testbed import Cluster, Collector, free_port

INTERVAL_SECONDS = 1.0
NONE: frozenset[tuple[str, str]] = frozenset()


class Between(NamedTuple):
    """What /metrics said before a push, what was pushed, what /metrics said after it; how long it took."""

    before: dict[Series, float]
    pushed: dict[Series, float]
    after: dict[Series, float]
    seconds: float


class Metered:
    """A kexport process, both ways to its figures."""

    def __init__(self, folder: Path, cluster: Cluster, collector: Collector, name: str) -> None:
        self._url = f"http://127.0.0.1:{free_port()}"
        self._collector = collector
        document: dict[str, Any] = {
            "cluster": {"name": "live", "kubeconfig": str(cluster.api.kubeconfig())},
            "journal": {"path": str(folder / "state")},
            "http": {"listen": self._url.removeprefix("http://")},
            "telemetry": {
                "otlp_endpoint": collector.endpoint,
                "interval_seconds": INTERVAL_SECONDS,
                "resource_attributes": {"team": "core"},
            },
            "resources": [{"resource": "configmaps", "namespaces": [name]}],
            "sinks": {"changes": {"type": "file", "path": str(folder / "changes.jsonl")}},
        }
        self.process = Process(folder, document)

    def scrape(self) -> dict[Series, float]:
        request = urllib.request.Request(self._url + "/metrics", headers={"Accept": OPENMETRICS})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return scraped(answer.read().decode())

    def serves(self) -> bool:
        try:
            return bool(self.scrape())
        except OSError:
            return False

    def pushed(self) -> list[ExportMetricsServiceRequest]:
        return [
            json_format.Parse(line, ExportMetricsServiceRequest())
            for line in file_lines(self._collector.metrics)
        ]

    def push_between(self) -> Between:
        began = time.monotonic()
        before, pushes = self.scrape(), len(self.pushed())
        # The next push may have been read before that, and be on its way into the Collector's file.
        wait_until(lambda: len(self.pushed()) > pushes + 1, seconds=60, what="two pushes arrive")
        pushed = sent(self.pushed()[pushes + 1])
        return Between(before, pushed, self.scrape(), time.monotonic() - began)


@pytest.fixture
def metered(tmp_path: Path, cluster: Cluster, collector: Collector) -> Iterator[Metered]:
    name = f"push-{uuid.uuid4().hex[:8]}"
    space = {"metadata": {"name": name}}
    assert cluster.api.request("POST", "/api/v1/namespaces", space)[0] == 201
    path = f"/api/v1/namespaces/{name}/configmaps"
    wait_until(
        lambda: cluster.api.request("GET", f"{path}/kube-root-ca.crt")[0] == 200,
        seconds=150,
        what="the controllers give the namespace what each gets",
    )
    metered = Metered(tmp_path, cluster, collector, name)
    try:
        metered.process.start()
        wait_until(metered.serves, seconds=60, what="it serves its metrics")
        for number in range(20):
            thing = {"metadata": {"name": f"thing-{number}"}, "data": {"number": str(number)}}
            assert cluster.api.request("POST", path, thing)[0] == 201
        wait_until(
            lambda: delivered(metered.scrape()) >= 22,  # the certificates and the listing's end with them
            seconds=60,
            what=f"all is delivered\n{metered.process.tail()}",
        )
        yield metered
    finally:
        metered.process.end()


def delivered(values: dict[Series, float]) -> float:
    return values.get(("kexport_sink_delivered_events_total", frozenset({("sink", "changes")})), 0)


def test_the_collector_has_what_metrics_says(metered: Metered) -> None:
    before, pushed, after, seconds = metered.push_between()
    told = resource(metered.pushed()[-1])
    assert told["service.name"] == "kexport"
    assert told["k8s.cluster.name"] == "live"
    assert told["team"] == "core"
    assert told["service.instance.id"]
    assert set(before) <= set(pushed) | {series for series in before if series not in after}
    assert set(pushed) <= set(after) | set(before)
    ages = 0
    for series, value in pushed.items():
        low, high = sorted((before.get(series, 0.0), after.get(series, value)))
        name = series[0]
        if name.endswith(("_age_seconds", "_lag_seconds")):
            ages += 1  # they may have been set back meanwhile
            assert 0 <= value <= high + seconds, series
        elif name.startswith("process_"):
            assert low * 0.8 <= value <= high * 1.2, series
        else:
            assert low <= value <= high, series
    assert ages >= 3
    assert delivered(pushed) == delivered(after)


def test_a_collector_that_is_away_costs_nothing_and_is_counted(
    metered: Metered, cluster: Cluster, collector: Collector
) -> None:
    collector.stop()
    failures = ("kexport_otlp_push_failures_total", NONE)
    wait_until(lambda: metered.scrape()[failures] >= 2, seconds=60, what="pushes fail")
    assert b"metrics cannot be sent" in metered.process.log.read_bytes()
    collector.start()
    before = metered.scrape()["kexport_otlp_pushes_total", NONE]
    wait_until(
        lambda: metered.scrape()["kexport_otlp_pushes_total", NONE] > before,
        seconds=60,
        what="they arrive again",
    )
    wait_until(
        lambda: sent(metered.pushed()[-1])[failures] >= 2, seconds=60, what="the Collector has the failures"
    )
    assert metered.process.log.read_bytes().count(b"metrics cannot be sent") == 1
    started = time.monotonic()
    assert metered.process.stop() == 0
    assert time.monotonic() - started < 20
