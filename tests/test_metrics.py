"""What /metrics says is complete, well-formed and true."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import parser as plain_parser
from prometheus_client.openmetrics import parser

from kexport.change import StreamKey
from kexport.config import parse
from kexport.errors import TransientError
from kexport.figures import FIGURES
from kexport.journal import Journal
from kexport.metrics import OPENMETRICS, Metrics, page, reference
from kexport.tables import JournalConfig
from kexport.telemetry import LaneStats, Stats, StreamStats
from kexport.testing import make_event
from kexport.view import View
from tests.exporter import Memory
from tests.looking import configuration, looking, pod

ROOT = Path(__file__).parent.parent
PODS = "pods/*"


def families(text):
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def values(text):
    """{(sample name, label values in the list's order…): value}"""
    labels = {figure.name: figure.labels for figure in FIGURES}
    return {
        (sample.name, *(sample.labels[label] for label in labels.get(family.name, ()))): sample.value
        for family in families(text).values()
        for sample in family.samples
    }


async def scraped(look):
    answer = await look.get("/metrics", headers={"Accept": f"{OPENMETRICS}; version=1.0.0"})
    return values(answer.text)


def test_the_reference_in_the_documents_is_the_list():
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == reference()


def test_names_keep_the_conventions():
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)
    for figure in FIGURES:
        assert figure.name.startswith("kexport_")
        assert not figure.name.endswith(("_total", "_info", "_ms", "_milliseconds"))
        assert figure.name.endswith(f"_{figure.unit}") if figure.unit else True
        assert (figure.unit == "seconds") == figure.name.endswith("_seconds"), figure.name
        assert figure.help.endswith("."), figure.name


async def test_what_is_answered_is_what_the_list_says(tmp_path):
    async with looking(tmp_path) as look:
        answer = await look.get("/metrics", headers={"Accept": OPENMETRICS})
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        found = families(answer.text)
        for figure in FIGURES:
            family = found[figure.name]
            assert (family.type, family.unit, family.documentation) == (figure.kind, figure.unit, figure.help)
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(figure.labels), figure.name
        others = set(found) - {figure.name for figure in FIGURES}
        assert all(name.startswith("process_") for name in others)


async def test_every_metric_has_a_value_where_there_is_something_to_say(tmp_path):
    async with looking(tmp_path) as look:
        look.cluster.bookmark()
        text = (await look.get("/metrics", headers={"Accept": OPENMETRICS})).text
        empty = {name for name, family in families(text).items() if not family.samples}
        # No gap, no route, no OTLP; the moments of the last are told by the informer's own fields.
        assert empty <= {
            "kexport_route_rate_limited_events",
            "kexport_route_sampled_out_events",
            "kexport_route_undecided_events",
            "kexport_gaps",
            "kexport_gap_age_seconds",
            "kexport_otlp_pushes",
            "kexport_otlp_push_failures",
            "kexport_stream_bookmark_age_seconds",
            "kexport_stream_watch_age_seconds",
        }


async def test_who_asks_for_nothing_newer_gets_the_plain_format(tmp_path):
    async with looking(tmp_path) as look:
        answer = await look.get("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        samples = [s for f in plain_parser.text_string_to_metric_families(answer.text) for s in f.samples]
        assert any(sample.name == "kexport_build_info" for sample in samples)
        assert "# EOF" not in answer.text


async def test_changes_are_counted_by_stream_type_and_origin(tmp_path):
    async with looking(tmp_path) as look:
        look.cluster.create(pod("second"))
        look.cluster.patch("pods", "default", "second", {"metadata": {"labels": {"a": "b"}}})
        look.cluster.delete("pods", "default", "second", grace_seconds=0)
        await look.exporter.until(lambda events: any(event.change == "deleted" for event in events))
        got = await scraped(look)
        labels = "kexport_changes_total", PODS
        counted = {key[2:]: value for key, value in got.items() if key[:2] == labels}
        told = [e for e in look.exporter.events if e.type.startswith("io.kexport.object.")]
        assert counted["added", "snapshot"] == 1
        assert counted["added", "watch"] == 1
        assert counted["deleted", "watch"] == 1
        assert sum(counted.values()) == len(told)
        assert got["kexport_snapshots_total", PODS, "initial"] == 1
        assert got["kexport_journal_commit_seconds_count",] >= 1
        assert got["kexport_stream_synced", PODS] == 1
        assert got["kexport_stream_state", PODS, "watching"] == 1


async def test_a_gap_is_counted_with_its_reason_and_what_became_of_its_changes(tmp_path):
    async with looking(tmp_path) as look:
        await look.miss("lost")
        await look.exporter.until(lambda events: any(event.change == "gap" for event in events))
        await look.exporter.synced(2)
        got = await scraped(look)
        assert got["kexport_gaps_total", PODS, "expired"] == 1
        assert got["kexport_snapshots_total", PODS, "expired"] == 1
        assert 0 <= got["kexport_gap_age_seconds", PODS, "expired", "true"] < 60
        assert got["kexport_recovered_changes_total", PODS] == 1
        assert got["kexport_inferred_changes_total", PODS] == 0
        gap = next(event for event in look.exporter.events if event.change == "gap")
        (told,) = look.view.journal.tally.recent_gaps
        assert told == {"kind": "gap", "time": gap.attributes.time, **gap.data["object"]}


async def test_a_sinks_figures_while_it_fails_and_when_it_works_again(tmp_path):
    memory = Memory()
    async with looking(tmp_path, memory=memory) as look:

        def down(_events):
            raise TransientError("the disk of the far end is full")

        memory.fail = down
        look.cluster.create(pod("second"))
        lane = look.view.stats.lanes["memory"]
        await look.exporter.look(lambda: lane.retries >= 2, seconds=20, what=lambda: str(lane))
        got = await scraped(look)
        assert got["kexport_sink_lag_events", "memory"] >= 1
        assert 0 < got["kexport_sink_lag_seconds", "memory"] < 60
        assert got["kexport_sink_retries_total", "memory"] >= 2
        assert got["kexport_sink_state", "memory", "retrying"] == 1
        memory.fail = lambda _events: None
        await look.exporter.look(
            lambda: look.view.journal.tally.lag(lane.cursor)[0] == 0, seconds=20, what=lambda: str(lane)
        )
        got = await scraped(look)
        assert got["kexport_sink_lag_seconds", "memory"] == 0
        assert got["kexport_sink_delivered_events_total", "memory"] == len(memory.events)
        assert got["kexport_sink_write_seconds_count", "memory"] >= len(memory.batches) + 2
        assert 0 <= got["kexport_sink_success_age_seconds", "memory"] < 60


async def test_the_lag_of_what_was_stored_before_the_process_began(tmp_path):
    """A sink that is down over a restart is as late as its oldest event, not as this process is old."""
    config = JournalConfig(path=str(tmp_path / "state"))
    journal = await Journal.open(config, lanes=["a"])
    await journal.register([StreamKey(PODS)], cluster_uid="uid")
    observed = datetime.now(UTC) - timedelta(hours=1)
    first = make_event(1, time=f"{observed:%Y-%m-%dT%H:%M:%S.%fZ}")
    journal.append(StreamKey(PODS), [first, make_event(2), make_event(3)], {})
    await journal.close()
    journal = await Journal.open(config, lanes=["a"])
    try:
        events, seconds = journal.tally.lag(journal.lane("a").cursor)
        assert events == 3
        assert seconds == pytest.approx(3600, abs=60)
        assert journal.tally.age(journal.retention.first) == pytest.approx(3600, abs=60)
    finally:
        await journal.close()


def cost_of_a_look(config, journal, streams: int) -> float:
    """CPU seconds of this thread for one look at so many streams, the best of five."""
    keys = [StreamKey(f"kind{number}.example.com/*") for number in range(streams)]
    stats = Stats({key: StreamStats(bookmark=1.0, watched=1.0) for key in keys}, {"memory": LaneStats()})
    for key in keys:
        journal.tally.take(key, [make_event(1)])
    metrics = Metrics(View(stats, journal, lambda: config))
    spent = []
    for _ in range(5):
        started = time.thread_time()
        body = page([*metrics.collect()], OPENMETRICS).body
        spent.append(time.thread_time() - started)
    assert body.count(b"kexport_stream_synced{") == streams
    return min(spent)


async def test_a_look_at_many_streams_costs_no_more_for_each_than_at_few(tmp_path):
    """Every figure goes once through what it counts."""
    config = parse(configuration(tmp_path, "http://127.0.0.1:1"), {"memory": Memory().type()})
    journal = await Journal.open(JournalConfig(path=":memory:"), lanes=["memory"])
    try:
        assert cost_of_a_look(config, journal, 500) < 30 * cost_of_a_look(config, journal, 50)
    finally:
        await journal.close()


async def test_a_name_full_of_quotes_breaks_no_line(tmp_path):
    config = parse(configuration(tmp_path, "http://127.0.0.1:1"), {"memory": Memory().type()})
    journal = await Journal.open(JournalConfig(path=":memory:"), lanes=["memory"])
    try:
        key = 'pods/*?labels=a in ("x",\\ y)\n'
        view = View(Stats({key: StreamStats()}), journal, lambda: config)
        body = page([*Metrics(view).collect()], OPENMETRICS).body
        assert values(body.decode())["kexport_stream_synced", key] == 0
    finally:
        await journal.close()
