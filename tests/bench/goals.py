"""What the figures should be, and whether they are."""

from __future__ import annotations

from typing import NamedTuple

from tests.bench.figures import UNITS, Rows


class Goal(NamedTuple):
    """The median of one figure of one row, at most (or at least) so much."""

    what: str
    scenario: str
    row: str
    figure: str
    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    @property
    def limit_text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:,g} {UNITS[self.figure]}"


class Verdict(NamedTuple):
    goal: Goal
    value: float | None
    """None: not measured in this run."""

    @property
    def text(self) -> str:
        if self.value is None:
            return "not measured"
        return "ok" if self.goal.met(self.value) else "missed"


_FILE, _KAFKA = "pods 4.9 kB → file", "pods 4.9 kB → kafka"
_MOST = "100,000 known objects"

GOALS = (
    Goal("pods into a file", "firehose", _FILE, "cpu_us", 60),
    Goal("its Collector, over ours", "peers", "Collector: pods → file", "ratio", 6, at_least=True),
    Goal("pods into Kafka", "firehose", _KAFKA, "cpu_us", 80),
    Goal("pods into Kafka", "firehose", _KAFKA, "per_second", 12_000, at_least=True),
    Goal(
        "Collector into Kafka, over ours", "peers", "Collector: pods → Kafka", "rate_ratio", 10, at_least=True
    ),
    Goal("Events into a file", "firehose", "Events 0.8 kB → file", "cpu_us", 45),
    Goal(
        "Events into a file: ahead of kubernetes-event-exporter",
        "peers",
        "kubernetes-event-exporter: new Events → file",
        "ratio",
        1,
        at_least=True,
    ),
    Goal("delay into Kafka at 500/s", "delay", "line sent → kafka ack, 500/s", "p50_ms", 15),
    Goal("delay into Kafka at 500/s", "delay", "line sent → kafka ack, 500/s", "p99_ms", 60),
    Goal("100,000 pods listed", "listing", "100,000 pods, in pages → file", "peak_mb", 250),
    Goal("100,000 pods, WatchList", "listing", "100,000 pods, WatchList → file", "peak_mb", 250),
    Goal("500 idle streams", "idle", "500 streams", "cpu_percent", 2),
    Goal("500 idle streams", "idle", "500 streams", "rss_mb", 200),
    Goal("3 idle streams", "idle", "3 streams", "rss_mb", 90),
    Goal("start", "start", "process start → first watch open", "seconds", 1.5),
    Goal("restart", "start", "restart → first change acknowledged", "seconds", 2),
    Goal("a pod change in the journal", "firehose", _FILE, "journal_bytes", 400),
    Goal("100 times the known objects", "growth", _MOST, "growth", 1.2),
    Goal("10 times the journal", "growth", "200,000 events in the journal", "growth", 1.2),
)


def judge(rows: Rows) -> list[Verdict]:
    """For whole runs only: a few changes have a start to carry, which many hardly notice."""
    return [Verdict(goal, rows.median(goal.scenario, goal.row, goal.figure)) for goal in GOALS]
