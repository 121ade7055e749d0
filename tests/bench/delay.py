"""How long a change is under way at a steady rate: from the server to the sink's acknowledgement."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.bench.child import StubServer
from tests.bench.exporting import PODS, Bench, Exporter, report
from tests.bench.far_ends import FarEnds
from tests.bench.figures import quantiles_ms
from tests.testbed import ApiServer

RATES = (100, 500, 2000)
SECONDS = 15
PATH = "/api/v1/namespaces/default/configmaps"


def delay(bench: Bench, ends: FarEnds) -> None:
    """The stub stamps each line as it sends it; a sink around the real one reads the clock at the ack."""
    for inner in ("null", "file", "kafka"):
        for rate in RATES:
            delays = _steady(bench, ends, inner, rate)
            bench.rows.add("delay", f"line sent → {inner} ack, {rate}/s", **quantiles_ms(delays))
    bench.rows.add("delay", "API server's commit → Kafka consumer, 100/s", **_on_the_api_server(bench, ends))


def _steady(bench: Bench, ends: FarEnds, inner: str, rate: int) -> list[int]:
    folder = bench.new_folder("delay")
    settings = dict(ends.sink(inner, folder))
    kind = settings.pop("type")
    sink: dict[str, Any] = {"type": "bench", "report": str(folder / "report.json")}
    if inner != "null":
        sink |= {"inner": kind, "settings": settings}
    changes = bench.count(rate * SECONDS)
    served = PODS._replace(changes=changes, per_second=rate)
    with StubServer(served) as stub, Exporter(folder, stub.url, ["pods"], {"measured": sink}) as exporter:
        exporter.wait_delivered(changes + 1, seconds=SECONDS + 120)
        exporter.stop()
    delays: list[int] = report(folder / "report.json")["delays_ns"]
    assert len(delays) == changes, f"{len(delays)} of {changes} changes arrived in time"
    return delays


def _on_the_api_server(bench: Bench, ends: FarEnds) -> dict[str, float]:
    """A writer stamps a ConfigMap before each request: what is measured contains the request itself."""
    folder = bench.new_folder("commit")
    api = ends.cluster.api
    settings = ends.sink("kafka", folder)
    names = [f"bench-{number}" for number in range(20)]
    for name in names:
        api.request("POST", PATH, {"metadata": {"name": name}, "data": {"sent": "0"}})
    changes = bench.count(100 * SECONDS)
    exporter = Exporter(folder, "", ["configmaps"], {"kafka": settings}, kubeconfig=str(api.kubeconfig()))
    with exporter:
        exporter.wait_watching()
        reader = _Reader(ends.kafka.bootstrap, settings["topic"], changes)
        reader.start()
        try:
            _write(api, names, changes)
            reader.join(120)
        finally:
            reader.stopped = True
            reader.join(10)
        exporter.stop()
    assert len(reader.delays) == changes, f"{len(reader.delays)} of {changes} changes reached the consumer"
    return quantiles_ms(reader.delays)


def _write(api: ApiServer, names: list[str], changes: int) -> None:
    due = time.monotonic()
    for number in range(changes):
        due += 1 / 100
        time.sleep(max(0.0, due - time.monotonic()))
        body = {"data": {"sent": str(time.time_ns())}}
        status, answer = api.request(
            "PATCH",
            f"{PATH}/{names[number % len(names)]}",
            body,
            content_type="application/merge-patch+json",
        )
        assert status == 200, answer


class _Reader(threading.Thread):
    """Reads the topic from its beginning until `expected` stamped changes have come."""

    def __init__(self, bootstrap: str, topic: str, expected: int) -> None:
        super().__init__(name="reader", daemon=True)
        self._topic = topic
        self._expected = expected
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False}
        )
        self.delays: list[int] = []
        self.stopped = False

    def run(self) -> None:
        self._consumer.assign([TopicPartition(self._topic, 0, 0)])
        while len(self.delays) < self._expected and not self.stopped:
            record = self._consumer.poll(0.5)
            if record is None or record.error():
                continue
            now = time.time_ns()
            stored = json.loads(record.value())["data"]["object"]
            sent = int(stored.get("data", {}).get("sent", 0))
            if sent and json.loads(record.value())["origin"] == "watch":
                self.delays.append(now - sent)
        self._consumer.close()
