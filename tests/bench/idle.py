"""What kexport takes while nothing happens, and how long a start takes."""

from __future__ import annotations

import time

from tests.bench.child import StubServer
from tests.bench.exporting import PODS, WIDGETS, Bench, Exporter, report
from tests.bench.far_ends import FarEnds

STREAMS = (1, 3, 50, 500)
LOOK_SECONDS = 20.0
BOOKMARK_SECONDS = 10.0


def idle(bench: Bench, ends: FarEnds) -> None:
    """Streams whose only news are bookmarks, every 10 s: six times as many as a real server sends."""
    for streams in STREAMS:
        bench.rows.add("idle", f"{streams} streams", **_looked_on(bench, ends, streams))


def _looked_on(bench: Bench, ends: FarEnds, streams: int) -> dict[str, float]:
    folder = bench.new_folder("idle")
    served = [WIDGETS._replace(name=f"widgets{number}", objects=1) for number in range(streams)]
    seconds = bench.seconds(LOOK_SECONDS)
    with StubServer(*served, bookmark_seconds=BOOKMARK_SECONDS * seconds / LOOK_SECONDS) as stub:
        sinks = {"file": ends.sink("file", folder)}
        with Exporter(folder, stub.url, [f"*.{WIDGETS.group}"], sinks) as exporter:
            exporter.wait_until(
                lambda: len(stub.state()["opened"]) >= streams, seconds=120, what="every stream is watched"
            )
            exporter.wait_delivered(streams)
            time.sleep(seconds / 4)  # what the start left to do is no part of it
            before, began = exporter.cpu_seconds(), time.monotonic()
            time.sleep(seconds)
            used = exporter.cpu_seconds() - before
            percent = 100 * used / (time.monotonic() - began)
            rss = exporter.memory_mb()
            cost = exporter.stop()
    return {"cpu_percent": percent, "rss_mb": rss, "peak_mb": cost.peak_mb}


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
