"""What grows, and what a change then costs: known objects, streams, the journal, a lane far behind."""

from __future__ import annotations

import time

from tests.bench.child import StubServer
from tests.bench.exporting import EVENTS, PODS, WIDGETS, Bench, Exporter, report
from tests.bench.far_ends import FarEnds

OBJECTS = (1000, 10_000, 100_000)
STREAMS = (1, 10, 100)
JOURNALS = (1, 10)


def growth(bench: Bench, ends: FarEnds) -> None:
    """CPU per change, whole process, beside that of the smallest in the same run."""
    changes = bench.count(100_000)
    for what, sizes, measure in (
        ("known objects", OBJECTS, _with_objects),
        ("streams", STREAMS, _with_streams),
        ("journal", (*JOURNALS, 100) if bench.full else JOURNALS, _with_journal),
    ):
        smallest = 0.0
        for size in sizes:
            cpu = measure(bench, changes, size)
            smallest = smallest or cpu
            label = f"{20_000 * size:,} events in the journal" if what == "journal" else f"{size:,} {what}"
            bench.rows.add("growth", label, cpu_us=cpu, growth=cpu / smallest)


def _with_objects(bench: Bench, changes: int, size: int) -> float:
    """The objects are listed in an earlier life; what is measured is a restart and the changes."""
    folder = bench.new_folder("objects")
    size = bench.count(size)
    served = PODS._replace(objects=size, listed=size)
    sinks = {"null": {"type": "bench"}}
    with StubServer(served) as stub, Exporter(folder, stub.url, ["pods"], sinks) as exporter:
        exporter.wait_delivered(size + 1)
        exporter.stop()
    with (
        StubServer(served._replace(changes=changes)) as stub,
        Exporter(folder, stub.url, ["pods"], sinks) as exporter,
    ):
        return _marginal(exporter, stub, before=size + 1, changes=changes)


def _marginal(exporter: Exporter, stub: StubServer, *, before: int, changes: int) -> float:
    """CPU per change from the opened watch on: a start checks the whole file once, whatever comes then."""
    exporter.wait_until(lambda: bool(stub.state()["opened"]), seconds=60, what="the watch is open")
    started = exporter.cpu_seconds()
    exporter.wait_delivered(before + changes)
    return (exporter.cpu_seconds() - started) / changes * 1e6


def _with_streams(bench: Bench, changes: int, size: int) -> float:
    """The same changes, shared out; their sum is measured, the streams' start included."""
    folder = bench.new_folder("streams")
    each = max(1, changes // size)
    served = [
        WIDGETS._replace(name=f"widgets{number}", shape="events", objects=1000, changes=each)
        for number in range(size)
    ]
    with (
        StubServer(*served) as stub,
        Exporter(folder, stub.url, [f"*.{WIDGETS.group}"], {"null": {"type": "bench"}}) as exporter,
    ):
        exporter.wait_delivered(size * (each + 1))
        return exporter.stop().cpu_seconds / (size * each) * 1e6


def _with_journal(bench: Bench, changes: int, size: int) -> float:
    """The journal is filled in an earlier life, and keeps it all (keep_seconds is an hour)."""
    folder = bench.new_folder("journal")
    before = bench.count(20_000) * size
    sinks = {"null": {"type": "bench"}}
    with (
        StubServer(EVENTS._replace(changes=before)) as stub,
        Exporter(folder, stub.url, ["events"], sinks) as exporter,
    ):
        exporter.wait_delivered(before + 1)
        exporter.stop()
    with (
        StubServer(EVENTS._replace(changes=before + changes)) as stub,
        Exporter(folder, stub.url, ["events"], sinks) as exporter,
    ):
        return _marginal(exporter, stub, before=before + 1, changes=changes)


def catchup(bench: Bench, ends: FarEnds) -> None:
    """A sink that was off while changes came: how fast it gets them once it is there."""
    changes = bench.count(1_000_000 if bench.full else 200_000)
    folder = bench.new_folder("catchup")
    off = {"measured": {"type": "bench", "refuse": True}}
    with (
        StubServer(EVENTS._replace(changes=changes)) as stub,
        Exporter(folder, stub.url, ["events"], off, shutdown_seconds=0.0) as exporter,
    ):
        exporter.wait_stored(changes + 1)
        exporter.stop()
    path = folder / "report.json"
    inner = {"inner": "file", "settings": {"path": str(folder / "late.jsonl")}}
    on = {"measured": {"type": "bench", "report": str(path), **inner}}
    with (
        StubServer(EVENTS._replace(changes=changes)) as stub,
        Exporter(folder, stub.url, ["events"], on) as exporter,
    ):
        exporter.wait_delivered(changes + 1)
        ended = time.monotonic()
        cost = exporter.stop()
    (folder / "late.jsonl").unlink()
    bench.rows.add(
        "catchup",
        f"a lane {changes:,} Events behind → file",
        per_second=changes / (ended - report(path)["opened"]),
        cpu_us=cost.cpu_seconds / changes * 1e6,
        peak_mb=cost.peak_mb,
    )
