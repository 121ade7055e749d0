"""kubernetes-event-exporter in the benchmark: a stand-in for its program, on the real stub."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from tests.bench.exporting import EVENTS, Bench
from tests.bench.figures import Rows
from tests.bench.goals import GOALS
from tests.bench.objects import BASE
from tests.bench.peers import event_exporter
from tests.testbed.__main__ import build_missing
from tests.testbed.recipes import BENCH_PARTS, EVENT_EXPORTER, PARTS

SERVED = EVENTS._replace(objects=30, changes=30, change_type="ADDED")
OURS = {"cpu_us": 10.0, "per_second": 1000.0}
LABEL = "new Events → file"
ROW = "kubernetes-event-exporter: new Events → file"

# Exports what is added under a name that it has not seen, the newest first: it keeps no order.
PROGRAM = f"""#!{sys.executable}
import json, signal, sys, urllib.request
given = dict(argument.split("=", 1) for argument in sys.argv[1:])
config = json.load(open(given["-conf"]))
(receiver,) = config["receivers"]
assert config["route"]["routes"][0]["match"] == [{{"receiver": receiver["name"]}}]
assert given["-metrics-address"] == "127.0.0.1:0"
(cluster,) = json.load(open(given["-kubeconfig"]))["clusters"]
events = cluster["cluster"]["server"] + "/api/v1/events"
listed = json.load(urllib.request.urlopen(events + "?limit=500&resourceVersion=0"))
version = listed["metadata"]["resourceVersion"]
stream = urllib.request.urlopen(events + "?watch=true&resourceVersion=" + version)
lines = [json.loads(stream.readline()) for _ in range({SERVED.changes})]
assert {{line["type"] for line in lines}} == {{"ADDED"}}
new = {{line["object"]["metadata"]["name"]: line["object"] for line in lines}}
print([event["metadata"]["resourceVersion"] for event in new.values()], flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # it comes right behind the last line
with open(receiver["file"]["path"], "w") as output:
    for event in reversed(new.values()):
        print(json.dumps(event), file=output, flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    folder = tmp_path / "runs"
    folder.mkdir()
    return Bench(Rows(), folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEXPORT_TESTBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_new_event_is_counted_whatever_their_order(bench, cache):
    program = cache / EVENT_EXPORTER.folder_name / "event-exporter"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    event_exporter(bench, SERVED, OURS, LABEL)
    (log,) = bench.folder.glob("*/log.txt")
    assert log.read_text().strip() == str([str(BASE + 1 + number) for number in range(30)])
    figures = {name: values[0] for name, values in bench.rows.values["peers", ROW].items()}
    assert figures["ratio"] == figures["cpu_us"] / OURS["cpu_us"] > 0
    assert figures["rate_ratio"] == OURS["per_second"] / figures["per_second"]
    assert 0 < figures["peak_mb"] < own_mb  # a child begins as a copy of this process, which isn't its own
    assert "disk_bytes" in figures
    assert not list(bench.folder.glob("*/output.json"))


def test_one_that_ends_gives_no_figure_and_says_so(bench, cache):
    program = cache / EVENT_EXPORTER.folder_name / "event-exporter"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    event_exporter(bench, SERVED, OURS, LABEL)
    assert "the process ended before 30 Events" in bench.rows.notes["peers", ROW]
    assert bench.rows.median("peers", ROW, "ratio") is None


@pytest.mark.usefixtures("cache")
def test_without_it_the_row_says_that_it_is_absent(bench):
    event_exporter(bench, SERVED, OURS, LABEL)
    assert bench.rows.notes["peers", ROW] == "absent: the test bed has not built it"
    assert not list(bench.folder.iterdir())


def test_its_goal_asks_for_the_row_that_is_measured():
    goals = [goal for goal in GOALS if goal.row == ROW]
    assert [(goal.scenario, goal.figure, goal.limit, goal.at_least) for goal in goals] == [
        ("peers", "ratio", 1, True)
    ]


@pytest.mark.usefixtures("cache")
def test_it_is_built_for_the_benchmark_alone_and_from_a_clone_that_is_named(monkeypatch, capsys):
    monkeypatch.delenv(EVENT_EXPORTER.variable, raising=False)
    assert EVENT_EXPORTER in BENCH_PARTS
    assert EVENT_EXPORTER not in PARTS
    build_missing(BENCH_PARTS)
    said = capsys.readouterr().out
    assert "left out" in said
    assert EVENT_EXPORTER.variable in said
    assert EVENT_EXPORTER.repository in said
