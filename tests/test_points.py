"""The figures as OTLP has them: the same as on /metrics, each with its kind, unit and beginning."""

from __future__ import annotations

import time

import pytest

from kexport import points as points_module
from kexport.change import StreamKey
from kexport.errors import TransientError
from kexport.figures import FIGURES
from kexport.metrics import Metrics
from kexport.points import Points
from kexport.telemetry import LaneStats, RouteStats, Stats, StreamStats
from kexport.testing import make_event
from tests.exporter import Memory
from tests.looking import looking, pod
from tests.otlp import metrics, resource, samples, sent, unpacked
from tests.pushing import both, still

PODS = "pods/*"


def assert_same(pushed, on_page):
    assert set(pushed) == set(on_page)
    for series, value in on_page.items():
        # The process goes on between the two, and what is printed is rounded.
        loose = series[0].startswith("process_") or series[0].endswith(("_age_seconds", "_lag_seconds"))
        assert pushed[series] == (pytest.approx(value, abs=0.5, rel=0.05) if loose else value), series


async def test_every_value_is_the_one_that_metrics_says(tmp_path, monkeypatch):
    memory = Memory()
    async with looking(tmp_path, memory=memory) as look:

        def down(_events):
            raise TransientError("away")

        memory.fail = down
        look.cluster.create(pod("second"))
        lane = look.view.stats.lanes["memory"]
        await look.exporter.look(lambda: lane.retries >= 2, seconds=20, what=lambda: str(lane))
        memory.fail = lambda _events: None
        await look.miss("lost")
        await look.exporter.synced(2)
        moment, now = time.monotonic(), time.time()
        with monkeypatch.context() as patch:  # no clock goes on between the two
            patch.setattr("time.monotonic", lambda: moment)
            patch.setattr("kexport.figures.monotonic", lambda: moment)
            patch.setattr("time.time", lambda: now)
            pushed, on_page, _ = both(look.view, Points(look.view))
        assert_same(pushed, on_page)
        names = {name for name, _ in pushed}
        assert {"kexport_gaps_total", "kexport_sink_write_seconds_bucket", "kexport_build_info"} <= names
        assert "process_resident_memory_bytes" in names


async def test_every_figure_is_sent_with_its_kind_unit_and_meaning(tmp_path):
    lane = LaneStats(succeeded=1.0)
    stats = Stats({PODS: StreamStats(bookmark=1.0, watched=1.0)}, {"memory": lane})
    stats.routes[0, "memory"] = RouteStats(undecided=1, sampled_out=2, rate_limited=3)
    async with still(tmp_path, stats) as view:
        lane.writes.observe(0.003)
        view.journal.tally.gaps[StreamKey(PODS), "expired"] = 1
        view.journal.tally.gap_times[StreamKey(PODS), "expired", True] = 1.0
        view.journal.tally.snapshots[StreamKey(PODS), "expired"] = 1
        view.journal.tally.take(StreamKey(PODS), [make_event(1)])
        request = unpacked(points_module.encoded(Points(view).read({})))
        found = {metric.name: metric for metric in metrics(request)}
        kinds = {"counter": "sum", "gauge": "gauge", "info": "gauge", "histogram": "histogram"}
        for figure in FIGURES:
            metric = found[f"{figure.name}_info" if figure.kind == "info" else figure.name]
            assert metric.WhichOneof("data") == kinds[figure.kind]
            assert metric.description == figure.help
            assert metric.unit == {"seconds": "s", "bytes": "By", "ratio": "1", "": ""}[figure.unit]
            if figure.kind in {"counter", "histogram"}:
                assert getattr(metric, kinds[figure.kind]).aggregation_temporality == 2  # cumulative
            if figure.kind == "counter":
                assert metric.sum.is_monotonic
        (point,) = found["kexport_sink_write_seconds"].histogram.data_points
        assert (point.count, point.sum) == (1, 0.003)
        assert sum(point.bucket_counts) == point.bucket_counts[2] == 1
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
        assert not point.HasField("min")
        assert not point.HasField("max")


def starts(points, name):
    request = unpacked(points_module.encoded(points.read({})))
    (metric,) = [metric for metric in metrics(request) if metric.name == name]
    return {
        tuple(each.value.string_value for each in point.attributes): point.start_time_unix_nano
        for point in (metric.sum.data_points or metric.histogram.data_points)
    }


async def test_a_sum_says_since_when_it_counts(tmp_path):
    stats = Stats({PODS: StreamStats()}, {"memory": LaneStats(written=5)})
    async with still(tmp_path, stats) as view:
        points = Points(view)
        began = time.time_ns()
        first = starts(points, "kexport_sink_delivered_events")["memory",]
        assert first <= began
        assert starts(points, "kexport_sink_delivered_events")["memory",] == first
        between = time.time_ns()
        starts(points, "kexport_sink_delivered_events")
        stats.lanes["memory"] = LaneStats(written=2)  # a reload started it anew
        stats.lanes["later"] = LaneStats(written=1)
        anew = starts(points, "kexport_sink_delivered_events")
        assert anew["memory",] >= between
        assert anew["later",] >= between
        assert starts(points, "kexport_sink_delivered_events") == anew
        assert starts(points, "kexport_journal_commit_seconds")[()] == first


async def test_the_resource_says_whose_figures_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=core,service.name=from-environment")
    async with still(tmp_path) as view:
        request = unpacked(points_module.encoded(Points(view).read({"service.name": "ours"})))
        told = resource(request)
        assert told["service.name"] == "ours"
        assert told["team"] == "core"
        assert told["k8s.cluster.name"] == "test"
        assert told["service.instance.id"]
        assert told["service.version"]


async def test_hundreds_of_streams_are_read_in_time(tmp_path):
    """Reading holds up the loop: it may cost a few looks at /metrics, and encoding has a thread."""
    keys = [StreamKey(f"kind{number}.example.com/*") for number in range(500)]
    stats = Stats({key: StreamStats(bookmark=1.0, watched=1.0) for key in keys}, {"memory": LaneStats()})
    async with still(tmp_path, stats) as view:
        event = make_event(1)
        for key in keys:
            view.journal.tally.take(key, [event])
        points, metrics, read, looked = Points(view), Metrics(view), [], []
        for _ in range(5):
            started = time.thread_time()
            data = points.read({})
            read.append(time.thread_time() - started)
            collected = [*metrics.collect()]
            looked.append(time.thread_time() - started - read[-1])
        print(f"500 streams: read {min(read) * 1000:.1f} ms, /metrics {min(looked) * 1000:.1f} ms")
        assert len(sent(unpacked(points_module.encoded(data)))) == len(samples(collected)) > 5000
        assert min(read) < 6 * min(looked)
