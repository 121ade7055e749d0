"""Others that do this work, on the same stub in the same run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.bench.child import BenchError, Child, Cost, StubServer
from tests.bench.exporting import EVENTS, PODS, Bench
from tests.bench.far_ends import FarEnds
from tests.bench.firehose import pour
from tests.bench.objects import BASE
from tests.bench.stub import Served
from tests.testbed.cache import NotBuiltError, require
from tests.testbed.recipes import COLLECTOR, EVENT_EXPORTER

SECONDS = 180.0
TAIL_BYTES = 1 << 16
YEARS_SECONDS = 1_000_000_000  # the stream's Events bear old times, the same in every run


def peers(bench: Bench, ends: FarEnds) -> None:
    """kexport first; each peer's CPU per change is also given as a multiple of it."""
    count = bench.count(30_000)
    ours: dict[str, dict[str, float]] = {}
    # Each is an object of its own: who exports only what is added exports all of them, too.
    new_events = EVENTS._replace(objects=count, change_type="ADDED")
    for label, served, kind in (
        ("pods → file", PODS, "file"),
        ("new Events → file", new_events, "file"),
        ("pods → Kafka", PODS, "kafka"),
    ):
        poured = served._replace(changes=count)
        figures = ours[label] = pour(bench, ends, poured, [kind]).figures()
        kept = {name: figures[name] for name in ("per_second", "cpu_us", "peak_mb", "disk_bytes")}
        bench.rows.add("peers", f"kexport: {label}", **kept)
        theirs = partial(_collector, bench, ends, poured, kind)
        _compare(bench, f"Collector: {label}", theirs, figures)
        if served.name == EVENTS.name:
            event_exporter(bench, poured, figures, label)
    typed = partial(_typed, bench, PODS._replace(changes=bench.count(5000)))
    _compare(bench, "kubernetes.watch loop, pods, stores nothing", typed, ours["pods → file"])


def event_exporter(bench: Bench, served: Served, ours: Mapping[str, float], label: str) -> None:
    """kubernetes-event-exporter's row; who has not built it measures the others all the same."""
    row = f"kubernetes-event-exporter: {label}"
    try:
        program = require(EVENT_EXPORTER) / "event-exporter"
    except NotBuiltError:  # its message has a path of this machine
        bench.rows.note("peers", row, "absent: the test bed has not built it")
        return
    _compare(bench, row, partial(_event_exporter, bench, program, served), ours)


def _compare(
    bench: Bench, row: str, measure: Callable[[], dict[str, float]], ours: Mapping[str, float]
) -> None:
    try:
        figures = measure()
    except BenchError as error:
        bench.rows.note("peers", row, f"gave no figure: {str(error).splitlines()[0]}")
        return
    bench.rows.add(
        "peers",
        row,
        **figures,
        ratio=figures["cpu_us"] / ours["cpu_us"],
        rate_ratio=ours["per_second"] / figures["per_second"],
    )


def _typed(bench: Bench, served: Served) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.typed_watch"]
    folder = bench.new_folder("typed")
    with (
        StubServer(served) as stub,
        Child([*command, stub.url, str(served.changes)], folder) as child,
    ):
        cost = child.wait(seconds=SECONDS)
        seconds = time.monotonic() - stub.state()["opened"][0]
    return _figures(cost, served.changes, seconds)


def _figures(cost: Cost, changes: int, seconds: float) -> dict[str, float]:
    return {
        "per_second": changes / seconds,
        "cpu_us": cost.cpu_seconds / changes * 1e6,
        "peak_mb": cost.peak_mb,
        "disk_bytes": cost.written_bytes / changes,
    }


def _collector(bench: Bench, ends: FarEnds, served: Served, kind: str) -> dict[str, float]:
    """The k8sobjects receiver, without a batch processor, into the exporter of that kind."""
    folder = bench.new_folder("collector")
    output = folder / "output.json"
    topic = f"collector-{folder.name}"
    exporter: dict[str, Any] = {"file": {"path": str(output)}}
    arrived = _in_file(output, served)
    if kind == "kafka":
        exporter = {"kafka": _kafka_exporter(ends, topic)}
        arrived = _in_topic(ends, topic, served)
    with StubServer(served) as stub:
        settings = _settings(folder, served, exporter)
        environment = {"KUBECONFIG": str(_kubeconfig(folder, stub.url))}
        command = [str(require(COLLECTOR) / "collector"), f"--config=file:{settings}"]
        with Child(command, folder, environment=environment) as child:
            what = f"{served.changes} changes at the Collector's far end"
            child.wait_until(arrived, seconds=SECONDS, what=what)
            seconds = time.monotonic() - stub.state()["opened"][0]
            cost = child.stop()
    output.unlink(missing_ok=True)
    return _figures(cost, served.changes, seconds)


def _event_exporter(bench: Bench, program: Path, served: Served) -> dict[str, float]:
    """All Events into a file, without looking up the object that each is about."""
    folder = bench.new_folder("event-exporter")
    output = folder / "output.json"
    settings = folder / "event-exporter.yaml"
    settings.write_text(json.dumps(_event_exporter_settings(output)))
    with StubServer(served) as stub:
        command = [
            str(program),
            f"-conf={settings}",
            f"-kubeconfig={_kubeconfig(folder, stub.url)}",
            "-metrics-address=127.0.0.1:0",
        ]
        with Child(command, folder) as child:
            what = f"{served.changes} Events in kubernetes-event-exporter's file"
            child.wait_until(_so_many_lines(output, served.changes), seconds=SECONDS, what=what)
            seconds = time.monotonic() - stub.state()["opened"][0]
            cost = child.stop()
    output.unlink()
    return _figures(cost, served.changes, seconds)


def _event_exporter_settings(output: Path) -> dict[str, Any]:
    return {
        "omitLookup": True,
        "maxEventAgeSeconds": YEARS_SECONDS,
        "kubeQPS": 1000,
        "kubeBurst": 1000,
        "route": {"routes": [{"match": [{"receiver": "file"}]}]},
        "receivers": [{"name": "file", "file": {"path": str(output), "maxsize": 10_000}}],  # MB in a file
    }


def _kafka_exporter(ends: FarEnds, topic: str) -> dict[str, Any]:
    return {
        "brokers": [ends.kafka.bootstrap],
        "logs": {"topic": topic, "encoding": "otlp_json"},
        "producer": {"required_acks": -1, "compression": "lz4"},
        # Its default drops what comes while the queue is full; with this it waits.
        "sending_queue": {"block_on_overflow": True},
    }


def _settings(folder: Path, served: Served, exporter: dict[str, Any]) -> Path:
    watched = {"name": served.name, "mode": "watch"}
    (name,) = exporter
    settings = {
        "receivers": {"k8sobjects": {"auth_type": "kubeConfig", "objects": [watched]}},
        "exporters": exporter,
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"logs": {"receivers": ["k8sobjects"], "exporters": [name]}},
        },
    }
    path = folder / "collector.yaml"
    path.write_text(json.dumps(settings))  # every JSON document is a YAML one
    return path


def _kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stub", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "nobody"}}],
        "current-context": "stub",
    }
    path.write_text(json.dumps(document))
    return path


def _in_file(output: Path, served: Served) -> Callable[[], bool]:
    """Whether the last change is in the file's last lines."""
    last = str(BASE + served.changes).encode()

    def arrived() -> bool:
        if not output.exists():
            return False
        with output.open("rb") as file:
            file.seek(max(0, output.stat().st_size - TAIL_BYTES))
            return last in file.read()

    return arrived


def _so_many_lines(output: Path, wanted: int) -> Callable[[], bool]:
    """Whether the file has them: where order is not kept, the last change tells nothing about the others."""
    seen, offset = 0, 0

    def arrived() -> bool:
        nonlocal seen, offset
        if output.exists():
            with output.open("rb") as file:
                file.seek(offset)
                new = file.read()
            seen += new.count(b"\n")
            offset += len(new)
        return seen >= wanted

    return arrived


def _in_topic(ends: FarEnds, topic: str, served: Served) -> Callable[[], bool]:
    """Whether the topic has as many records as there were changes."""
    consumer = Consumer({"bootstrap.servers": ends.kafka.bootstrap, "group.id": topic, "log_level": 0})

    def arrived() -> bool:
        if topic not in consumer.list_topics(timeout=10).topics:
            return False
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        return bool(end >= served.changes)

    return arrived
