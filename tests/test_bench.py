"""The parts of the benchmark: what the stub serves, how figures become tables. No test looks at a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kexport.change import Resource, Stream
from kexport.encoder import Encoder
from kexport.intake import Intake
from kexport.journal import Journal
from kexport.kube import Client
from kexport.lines import LineSplitter, decode_line, decode_metadata
from kexport.parts import Parts
from kexport.places import Position
from kexport.shape import Shaper
from kexport.tables import ClusterConfig, JournalConfig
from kexport.telemetry import StreamStats
from tests.bench import report
from tests.bench.child import StubServer
from tests.bench.exporting import CONFIGMAPS, EVENTS, PODS, SECRETS, WIDGETS, Bench, Exporter
from tests.bench.exporting import report as read_report
from tests.bench.far_ends import FarEnds
from tests.bench.figures import Rows, quantiles_ms
from tests.bench.firehose import pour
from tests.bench.goals import GOALS, judge
from tests.bench.objects import BASE, Shape
from tests.bench.stub import Served

MOST_CALLS = 53
"""For one pod, a tenth above what Python 3.11 makes; later versions make fewer."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    folder = tmp_path / "runs"
    folder.mkdir()
    return Bench(Rows(), folder)


def shape(served: Served, objects: int = 50) -> Shape:
    return Shape(served.shape, objects=objects, head={"kind": served.kind, "apiVersion": served.api_version})


@pytest.mark.parametrize(
    ("served", "size"), [(PODS, 4900), (EVENTS, 800), (WIDGETS, 40_000), (CONFIGMAPS, 1200), (SECRETS, 1200)]
)
def test_lines_are_watch_lines_of_the_size_that_the_tables_name(served, size):
    made = shape(served)
    lines = [made.change(number) for number in range(100)]
    assert sum(map(len, lines)) / len(lines) == pytest.approx(size, rel=0.05)
    splitter = LineSplitter()
    for number, line in enumerate(splitter.feed(b"".join(lines))):
        metadata = decode_metadata(decode_line(line).object)
        assert metadata.resourceVersion == str(BASE + 1 + number)


def test_objects_take_turns_and_keep_name_and_uid():
    made = shape(PODS, objects=3)
    seen = [decode_metadata(decode_line(made.change(number)).object) for number in range(6)]
    assert len({(each.name, each.uid) for each in seen}) == 3
    assert [each.key for each in seen[:3]] == [each.key for each in seen[3:]]
    assert len({made.change(number) for number in range(6)}) == 6


def test_every_change_is_delivered_once_into_a_real_file(bench, tmp_path):
    with FarEnds(tmp_path / "ends") as ends:
        outcome = pour(bench, ends, PODS._replace(changes=30, objects=5), ["file"])
    assert outcome.changes == 30
    assert outcome.cost.cpu_seconds > 0
    assert outcome.journal_bytes > 0
    assert outcome.commits >= 1


@pytest.mark.parametrize("watch_list", [False, True])
def test_listed_objects_arrive_and_a_restart_goes_on_behind_them(bench, watch_list):
    folder = bench.new_folder("twice")
    path = folder / "changes.jsonl"
    served = PODS._replace(objects=7, listed=7, changes=0)
    for changes in (0, 5):
        with (
            StubServer(served._replace(changes=changes), watch_list=watch_list) as stub,
            Exporter(folder, stub.url, ["pods"], {"file": {"type": "file", "path": str(path)}}) as exporter,
        ):
            exporter.wait_delivered(8 + changes, seconds=60)
            exporter.stop()
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["origin"] for event in events] == ["snapshot"] * 8 + ["watch"] * 5
    assert len({event["id"] for event in events}) == 13


def test_the_measuring_sink_tells_the_delay_of_every_stamped_change(bench):
    folder = bench.new_folder("delay")
    path = folder / "report.json"
    sinks = {"measured": {"type": "bench", "report": str(path)}}
    served = PODS._replace(objects=5, changes=10, per_second=1000)
    with StubServer(served) as stub, Exporter(folder, stub.url, ["pods"], sinks) as exporter:
        exporter.wait_delivered(11, seconds=60)
        exporter.stop()
    written = read_report(path)
    assert len(written["delays_ns"]) == 10
    assert min(written["delays_ns"]) > 0
    assert exporter.started < written["opened"] < written["first"]


def test_a_refusing_sink_leaves_its_lane_behind(bench):
    folder = bench.new_folder("off")
    sinks = {"measured": {"type": "bench", "refuse": True}}
    served = EVENTS._replace(objects=5, changes=10)
    with (
        StubServer(served) as stub,
        Exporter(folder, stub.url, ["events"], sinks, shutdown_seconds=0.0) as exporter,
    ):
        exporter.wait_stored(11, seconds=60)
        exporter.stop()
        assert exporter.ask("SELECT cursor FROM lanes") == [(0,)]


async def test_a_change_takes_no_more_calls_than_it_did():
    """Calls of functions, Python's and C's, from bytes to the journal: the same number at every speed."""
    journal = await Journal.open(JournalConfig(path=":memory:"), lanes=["a"])
    try:
        stream = Stream(resource=Resource(group="", version="v1", name="pods", kind="Pod", namespaced=True))
        await journal.register([stream.key], cluster_uid="bench")
        client = Client(ClusterConfig(url="http://127.0.0.1:1"))  # nobody asks it anything
        shaper, encoder = Shaper("pods", b"key"), Encoder(stream, "bench")
        intake = Intake(Parts(stream, client, journal, encoder, shaper, StreamStats()))
        await intake.begin(Position(version=str(BASE)))
        made, splitter = shape(PODS), LineSplitter()
        sent = b"".join(made.change(number) for number in range(1000))
        chunks = [sent[at : at + 65_536] for at in range(0, len(sent), 65_536)]
        calls = _count_calls(lambda: [intake.take(splitter.feed(chunk)) for chunk in chunks])
        assert journal.tally.newest == 1000
    finally:
        await journal.close()
    assert calls / 1000 < MOST_CALLS


def _count_calls(work: Callable[[], object]) -> int:
    calls = 0

    def count(_frame: object, what: str, _argument: object) -> None:
        nonlocal calls
        calls += what in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def test_medians_are_taken_over_runs_and_the_spread_is_shown():
    assert report.cell([3.0, 1.0, 2.0]) == "2.00 (1.00-3.00)"
    assert report.cell([12_345.6]) == "12,346"
    assert report.cell([]) == ""
    assert quantiles_ms([3_000_000, 1_000_000, 2_000_000]) == {"p50_ms": 2.0, "p99_ms": 3.0, "max_ms": 3.0}


def test_a_goal_is_met_missed_or_not_measured():
    rows = Rows()
    at_most, at_least = GOALS[0], GOALS[3]
    assert {verdict.text for verdict in judge(rows)} == {"not measured"}
    rows.add(at_most.scenario, at_most.row, cpu_us=at_most.limit + 1)
    rows.add(at_least.scenario, at_least.row, per_second=at_least.limit)
    verdicts = judge(rows)
    assert (verdicts[0].text, verdicts[3].text) == ("missed", "ok")


def test_the_tables_go_between_the_marks_and_nothing_else_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    rows = Rows()
    rows.add("idle", "3 streams", rss_mb=71.0)
    rows.note("peers", "another one", "absent")
    environment = {
        "cores": 2, "processor": "P", "memory_gb": 8, "system": "S", "python": "3", "sqlite": "3",
        "load_before": 0.5,
    }  # fmt: skip
    document = {"environment": environment, "runs": 1, "quick": False, "rows": rows.document()}
    for _ in range(2):  # a second time changes nothing
        report.write_into(page, json.loads(json.dumps(document)))
        text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| 3 streams | 71.0 |" in text
    assert "| another one | absent |" in text
    assert text.count("3 idle streams") == 1


def test_a_page_without_the_marks_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="figures: begin"):
        report.write_into(page, {"rows": []})
