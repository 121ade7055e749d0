"""What kexport takes while nothing happens, and how long a start takes."""

from __future__ import annotations

import time
from contextlib import ExitStack

from tests.bench.child import StubServer
from tests.bench.exporting import PODS, WIDGETS, Bench, Exporter, report
from tests.bench.far_ends import FarEnds

STREAMS = (1, 3, 50, 500)
BOOKMARK_SECONDS = 60.0  # as a real API server; a look of the same length has one of each stream
SETTLE_SECONDS = 10.0


def idle(bench: Bench, ends: FarEnds) -> None:
    """Streams whose only news are bookmarks. All sizes are looked at together: none of them does much."""
    seconds = bench.seconds(BOOKMARK_SECONDS)
    with ExitStack() as running:
        exporters = {count: _following(bench, ends, count, seconds, running) for count in STREAMS}
        time.sleep(min(seconds, SETTLE_SECONDS))  # what the start left to do is no part of it
        began = time.monotonic()
        before = {count: exporter.cpu_seconds() for count, exporter in exporters.items()}
        time.sleep(seconds)
        for count, exporter in exporters.items():
            used = exporter.cpu_seconds() - before[count]
            percent = 100 * used / (time.monotonic() - began)
            rss = exporter.memory_mb()
            cost = exporter.stop()
            figures = {"cpu_percent": percent, "rss_mb": rss, "peak_mb": cost.peak_mb}
            bench.rows.add("idle", f"{count} streams", **figures)


def _following(
    bench: Bench, ends: FarEnds, streams: int, bookmark_seconds: float, running: ExitStack
) -> Exporter:
    """A kexport that has listed and watches so many streams, until `running` ends."""
    folder = bench.new_folder("idle")
    served = [WIDGETS._replace(name=f"widgets{number}", objects=1) for number in range(streams)]
    stub = running.enter_context(StubServer(*served, bookmark_seconds=bookmark_seconds, moving=True))
    sinks = {"file": ends.sink("file", folder)}
    exporter = running.enter_context(Exporter(folder, stub.url, [f"*.{WIDGETS.group}"], sinks))
    exporter.wait_until(
        lambda: len(stub.state()["opened"]) >= streams, seconds=120, what="every stream is watched"
    )
    exporter.wait_delivered(streams)
    return exporter


def start(bench: Bench, ends: FarEnds) -> None:
    """From the process's start to the first watch, and from a restart to the first change acknowledged."""
    folder = bench.new_folder("start")
    served = PODS._replace(listed=100)
    with (
        StubServer(served) as stub,
        Exporter(folder, stub.url, ["pods"], {"file": ends.sink("file", folder)}) as exporter,
    ):
        exporter.wait_until(lambda: bool(stub.state()["opened"]), seconds=60, what="a watch is open")
        seconds = stub.state()["opened"][0] - exporter.started
        exporter.wait_delivered(101)
        cost = exporter.stop()
    row = "process start → first watch open"
    bench.rows.add("start", row, seconds=seconds, cpu_seconds=cost.cpu_seconds, peak_mb=cost.peak_mb)

    folder = bench.new_folder("restart")
    path = folder / "report.json"
    sinks = {"measured": {"type": "bench", "report": str(path)}}
    for changes in (0, 1):
        with (
            StubServer(served._replace(changes=changes)) as stub,
            Exporter(folder, stub.url, ["pods"], sinks) as exporter,
        ):
            exporter.wait_delivered(101 + changes)
            exporter.stop()
    seconds = report(path)["first"] - exporter.started
    bench.rows.add("start", "restart → first change acknowledged", seconds=seconds)
