"""An engine that pushes its metrics, figures that stand still, and what OTLP and /metrics say of both."""

from __future__ import annotations

from contextlib import asynccontextmanager

from kexport import points as points_module
from kexport.config import parse
from kexport.journal import Journal
from kexport.metrics import OPENMETRICS, Metrics, page
from kexport.tables import JournalConfig
from kexport.telemetry import Stats
from kexport.testing import FakeCluster
from kexport.view import View
from tests.exporter import Exporter, Memory, toml_of
from tests.looking import QUICK, pod
from tests.otlp import samples, scraped, sent, unpacked


def document(directory, cluster_url, **telemetry):
    return {
        "cluster": {"name": "test", "url": cluster_url},
        "journal": {"path": str(directory / "state")},
        "http": {"listen": ""},
        "telemetry": telemetry,
        "resources": [{"resource": "pods"}],
        "sinks": {"memory": {"type": "memory", "retry": QUICK}},
    }


@asynccontextmanager
async def pushing(directory, receiver, *, memory=None, **telemetry):
    """An engine that sends its metrics to the receiver, synced."""
    settings = {"otlp_endpoint": receiver.url, "interval_seconds": 1.0, **telemetry}
    async with FakeCluster() as cluster:
        cluster.create(pod("first"))
        text = toml_of(document(directory, cluster.url, **settings))
        async with Exporter(text, memory or Memory()) as exporter:
            await exporter.synced()
            yield cluster, exporter


@asynccontextmanager
async def still(directory, stats=None, **telemetry):
    """A view on figures that only the test changes."""
    telemetry = {"otlp_endpoint": "http://127.0.0.1:1", **telemetry}
    text = toml_of(document(directory, "http://127.0.0.1:1", **telemetry))
    config = parse(text, {"memory": Memory().type()})
    journal = await Journal.open(JournalConfig(path=":memory:"), lanes=["memory", "later"])
    try:
        yield View(stats or Stats(), journal, lambda: config)
    finally:
        await journal.close()


def both(view, points):
    """What OTLP and /metrics say at one moment: nothing runs between the two readings."""
    data, families = points.read({}), [*Metrics(view).collect()]
    text = page(families, OPENMETRICS).body.decode()
    return sent(unpacked(points_module.encoded(data))), scraped(text), samples(families)
