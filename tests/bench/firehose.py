"""Changes as fast as they can be read, into each sink; what they cost, and what the journal makes of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.bench.child import Cost, StubServer
from tests.bench.exporting import CONFIGMAPS, EVENTS, PODS, SECRETS, WIDGETS, Bench, Exporter
from tests.bench.far_ends import FarEnds
from tests.bench.stub import Served

NOTHING: Mapping[str, Any] = MappingProxyType({})
SINKS = ("file", "kafka", "s3", "otlp")


class Outcome(NamedTuple):
    """One run: `seconds` from the opened watch to the last acknowledgement."""

    cost: Cost
    changes: int
    seconds: float
    journal_bytes: float
    commits: int

    def figures(self) -> dict[str, float]:
        return {
            "per_second": self.changes / self.seconds,
            "cpu_us": self.cost.cpu_seconds / self.changes * 1e6,
            "peak_mb": self.cost.peak_mb,
            "journal_bytes": self.journal_bytes / self.changes,
            "disk_bytes": self.cost.written_bytes / self.changes,
            "commits": self.commits / self.seconds,
        }


def pour(
    bench: Bench,
    ends: FarEnds,
    served: Served,
    sinks: Sequence[str],
    *,
    transform: Mapping[str, Any] = NOTHING,
    condition: Mapping[str, Any] = NOTHING,
    entry: Mapping[str, Any] = NOTHING,
) -> Outcome:
    """All changes of one resource through a fresh kexport into these sinks."""
    folder = bench.new_folder(served.name)
    settings = {kind: ends.sink(kind, folder) for kind in sinks}
    transforms = [{"resources": ["*"], **transform}] if transform else []
    routes = [{"sinks": list(sinks), **condition}] if condition else []
    with StubServer(served) as stub:
        resource = {"resource": _name(served), **entry}
        exporter = Exporter(folder, stub.url, [resource], settings, transforms=transforms, routes=routes)
        with exporter:
            exporter.wait_delivered(served.changes + 1)  # `synced` is the first event
            seconds = time.monotonic() - stub.state()["opened"][0]
            stored, commits = exporter.ask("SELECT total(length(data)), count(DISTINCT at) FROM chunks")[0]
            cost = exporter.stop()
    for each in folder.glob("changes.jsonl"):
        each.unlink()  # half a gigabyte
    return Outcome(cost, served.changes, seconds, stored, commits)


def _name(served: Served) -> str:
    return f"{served.name}.{served.group}" if served.group else served.name


def firehose(bench: Bench, ends: FarEnds) -> None:
    """Each kind of object into each sink, and into all sinks at once."""
    pods, events, widgets = bench.count(200_000), bench.count(300_000), bench.count(20_000)
    plan = [
        ("pods 4.9 kB", PODS._replace(changes=pods)),
        ("Events 0.8 kB", EVENTS._replace(changes=events)),
        ("custom resources 40 kB", WIDGETS._replace(changes=widgets)),
    ]
    for label, served in plan:
        for kind in ("null", *SINKS):
            # The far ends of these two are slower than kexport: less of it is enough.
            most = served.changes // 4 if kind in {"s3", "otlp"} else served.changes
            outcome = pour(bench, ends, served._replace(changes=most), [kind])
            bench.rows.add("firehose", f"{label} → {kind}", **outcome.figures())
    outcome = pour(bench, ends, PODS._replace(changes=pods // 4), SINKS)
    bench.rows.add("firehose", "pods 4.9 kB → all four", **outcome.figures())


def journal(bench: Bench, ends: FarEnds) -> None:
    """What a change takes in the journal, and how often it commits, while nothing else happens."""
    for label, served in (("pods 4.9 kB", PODS), ("Events 0.8 kB", EVENTS)):
        for rate in (0, 100, 2000):
            changes = bench.count(rate * 10 or 50_000)
            run = pour(bench, ends, served._replace(changes=changes, per_second=rate), ["null"])
            row = f"{label}, {f'{rate}/s' if rate else 'as fast as possible'}"
            kept = ("journal_bytes", "disk_bytes", "commits", "cpu_us")
            bench.rows.add("journal", row, **{name: run.figures()[name] for name in kept})


def cost(bench: Bench, ends: FarEnds) -> None:
    """What redaction, transforms, conditions and diffs add: the same objects without are the first row."""
    changes = bench.count(100_000)
    plan: list[tuple[str, Served, dict[str, dict[str, Any]]]] = [
        ("ConfigMaps, 12 values", CONFIGMAPS, {}),
        ("Secrets, 12 values, redacted", SECRETS, {}),
        ("pods", PODS, {}),
        ("pods, status.conditions and one annotation dropped", PODS, {"transform": _DROPPED}),
        ("pods, values of env hashed", PODS, {"transform": {"redact": ["env"]}}),
        ("pods, routed by a label", PODS, {"condition": {"labels": "!nobody"}}),
        ("pods, routed by where", PODS, {"condition": _WHERE}),
        ("pods, diff", PODS, {"entry": {"diff": True}}),
        ('pods, diff = "patch"', PODS, {"entry": {"diff": "patch"}}),
    ]
    for label, served, options in plan:
        outcome = pour(bench, ends, served._replace(changes=changes), ["null"], **options)
        bench.rows.add("cost", label, cpu_us=outcome.figures()["cpu_us"])


_DROPPED = {"drop": ["status.conditions", "metadata.annotations['checksum/config']"]}
_WHERE = {"where": "object.spec.containers.exists(c, c.image != '') && !has(object.metadata.labels.nobody)"}
