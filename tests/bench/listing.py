"""The first listing of many objects: how long until every one is acknowledged, and what it takes."""

from __future__ import annotations

import time

from tests.bench.child import StubServer
from tests.bench.exporting import PODS, Bench, Exporter
from tests.bench.far_ends import FarEnds

SIZES = (10_000, 100_000)


def listing(bench: Bench, ends: FarEnds) -> None:
    """Both ways in which a server can list: in pages, and as the first part of a watch (WatchList)."""
    for size in SIZES:
        for watch_list in (False, True):
            label = f"{size:,} pods, {'WatchList' if watch_list else 'in pages'} → file"
            bench.rows.add("listing", label, **_listed(bench, ends, bench.count(size), watch_list=watch_list))


def _listed(bench: Bench, ends: FarEnds, size: int, *, watch_list: bool) -> dict[str, float]:
    folder = bench.new_folder("listing")
    served = PODS._replace(objects=size, listed=size)
    sinks = {"file": ends.sink("file", folder)}
    with (
        StubServer(served, watch_list=watch_list) as stub,
        Exporter(folder, stub.url, ["pods"], sinks) as exporter,
    ):
        exporter.wait_delivered(size + 1)
        seconds = time.monotonic() - exporter.started
        cost = exporter.stop()
    (folder / "changes.jsonl").unlink()
    return {"seconds": seconds, "cpu_us": cost.cpu_seconds / size * 1e6, "peak_mb": cost.peak_mb}
