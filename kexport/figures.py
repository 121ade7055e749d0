"""Every metric: its name, kind, meaning and labels, and where its value is read.

Both expositions (`/metrics` and OTLP) and docs/metrics.md are made from this one list. Values are read when
somebody asks; they are plain numbers in the statistics and in the journal's tally.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Literal, NamedTuple

from kexport import __version__
from kexport.event import OBJECT
from kexport.telemetry import Histogram, LaneStats, RouteStats, StreamStats
from kexport.view import View, distribution

Labels = tuple[str, ...]
Value = float | Histogram
Reading = Iterable[tuple[Labels, Value]]


class Figure(NamedTuple):
    """One metric; a counter's name is without `_total`, a unit is the name's last word."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: Labels
    read: Callable[[View], Reading]
    unit: str = ""


STREAM, SINK, ROUTE = ("stream",), ("sink",), ("route", "sink")


def _streams(value: Callable[[StreamStats], float | None]) -> Callable[[View], Reading]:
    def read(view: View) -> Reading:
        for key, stats in view.stats.streams.items():
            if (number := value(stats)) is not None:
                yield (key,), number

    return read


def _sinks(value: Callable[[LaneStats], Value | None]) -> Callable[[View], Reading]:
    def read(view: View) -> Reading:
        for name, stats in view.stats.lanes.items():
            if (number := value(stats)) is not None:
                yield (name,), number

    return read


def _routes(value: Callable[[RouteStats], int | None]) -> Callable[[View], Reading]:
    def read(view: View) -> Reading:
        for (number, sink), stats in view.stats.routes.items():
            if (count := value(stats)) is not None:
                yield (str(number), sink), count

    return read


def _one(value: Callable[[View], Value]) -> Callable[[View], Reading]:
    return lambda view: [((), value(view))]


def _age(moment: float) -> float | None:
    """Seconds since then; nothing to say before it happened for the first time."""
    return max(0.0, monotonic() - moment) if moment else None


def _changes(view: View) -> Iterator[tuple[Labels, Value]]:
    for (stream, kind, origin), count in view.journal.tally.changes.items():
        if kind.startswith(OBJECT) and stream in view.stats.streams:
            yield (stream, kind.removeprefix(OBJECT), origin), count


def _of_origin(*origins: str) -> Callable[[View], Reading]:
    def read(view: View) -> Reading:
        counts = dict.fromkeys(view.stats.streams, 0)
        for (stream, _, origin), count in _changes(view):
            if origin in origins:
                counts[stream] += int(count)  # type: ignore[arg-type]
        return [((stream,), count) for stream, count in counts.items()]

    return read


def _reasons(which: Literal["gaps", "snapshots"]) -> Callable[[View], Reading]:
    def read(view: View) -> Reading:
        for (stream, reason), count in getattr(view.journal.tally, which).items():
            if stream in view.stats.streams:
                yield (stream, reason), count

    return read


def _gap_ages(view: View) -> Reading:
    now = monotonic()
    for (stream, reason, complete), at in view.journal.tally.gap_times.items():
        if stream in view.stats.streams:
            yield (stream, reason, str(complete).lower()), now - at


def _states(of: Literal["streams", "lanes"]) -> Callable[[View], Reading]:
    return lambda view: [((key, each.state), 1) for key, each in getattr(view.stats, of).items()]


def _lag(part: Literal[0, 1]) -> Callable[[View], Reading]:
    return lambda view: [
        ((name,), view.journal.tally.lag(lane.cursor)[part]) for name, lane in view.stats.lanes.items()
    ]


def _makers(view: View) -> Reading:
    lanes, sinks = view.stats.lanes, view.config().sinks
    for name, settings in sinks.items():
        if name in lanes:
            yield (name, settings.type.name, *distribution(settings)), 1


def _pushes(value: Callable[[View], Value]) -> Callable[[View], Reading]:
    return lambda view: [((), value(view))] if view.config().root.telemetry.otlp_endpoint else ()


def _oldest(view: View) -> float:
    first, tally = view.journal.retention.first, view.journal.tally
    return tally.age(first) if tally.newest > first else 0.0


def _wanted(view: View) -> float:
    retention, tally = view.journal.retention, view.journal.tally
    stored = tally.newest - retention.first
    behind = max((tally.lag(lane.cursor)[0] for lane in view.stats.lanes.values()), default=0)
    return retention.bytes / retention.max_bytes * min(1.0, behind / stored) if stored > 0 else 0.0


FIGURES: tuple[Figure, ...] = (
    # What was observed.
    Figure(
        "kexport_changes", "counter", "Changes that became events, by type and by how they came to be known.",
        ("stream", "type", "origin"), _changes,
    ),
    Figure(
        "kexport_inferred_changes", "counter", "Changes found by comparing, where history could not be read.",
        STREAM, _of_origin("resync"),
    ),
    Figure(
        "kexport_recovered_changes", "counter", "Changes read back from etcd's history after a gap.",
        STREAM, _of_origin("recovered"),
    ),
    Figure(
        "kexport_recovery_requests", "counter", "Requests made to read gaps back from history.",
        STREAM, _streams(lambda stream: stream.recovery_requests),
    ),
    Figure(
        "kexport_unchanged_changes", "counter", "Modifications of nothing worth telling (unchanged = drop).",
        STREAM, _streams(lambda stream: stream.unchanged),
    ),
    Figure("kexport_gaps", "counter", "Gaps, by their reason; each is an event, too.",
           ("stream", "reason"), _reasons("gaps")),
    Figure("kexport_gap_age_seconds", "gauge",
           "How long ago the last such gap was; complete says whether nothing of it was lost.",
           ("stream", "reason", "complete"), _gap_ages, "seconds"),
    Figure("kexport_snapshots", "counter", "Finished listings, by what made them necessary.",
           ("stream", "reason"), _reasons("snapshots")),
    Figure("kexport_audits", "counter", "Comparisons of the index with the cluster that came to an end.",
           STREAM, _streams(lambda stream: stream.audits)),
    Figure("kexport_audit_differences", "counter", "Objects in which an audit found the index to be wrong.",
           STREAM, _streams(lambda stream: stream.audit_differences)),
    # The streams.
    Figure("kexport_stream_synced", "gauge", "1 once everything that exists has been told.",
           STREAM, _streams(lambda stream: stream.synced)),
    Figure("kexport_stream_state", "gauge", "1 for the state that the stream is in.",
           ("stream", "state"), _states("streams")),
    Figure("kexport_stream_watches", "counter", "Watches opened.",
           STREAM, _streams(lambda stream: stream.watches)),
    Figure("kexport_stream_watch_age_seconds", "gauge", "How long the open watch has been open.",
           STREAM, _streams(lambda stream: _age(stream.watched)), "seconds"),
    Figure("kexport_stream_heard_age_seconds", "gauge", "How long ago the server last said anything.",
           STREAM, _streams(lambda stream: _age(stream.heard)), "seconds"),
    Figure("kexport_stream_bookmark_age_seconds", "gauge", "How long ago the last bookmark came.",
           STREAM, _streams(lambda stream: _age(stream.bookmark)), "seconds"),
    Figure("kexport_resources_waiting", "gauge", "Configured resources that the server does not have (yet).",
           (), _one(lambda view: len(view.stats.waiting))),
    # The sinks.
    Figure("kexport_sink_delivered_events", "counter", "Events acknowledged by the sink.",
           SINK, _sinks(lambda lane: lane.written)),
    Figure("kexport_sink_filtered_events", "counter", "Events that the sink's routes leave out.",
           SINK, _sinks(lambda lane: lane.filtered)),
    Figure("kexport_sink_rejected_events", "counter", "Events refused for good and stored with rejects_to.",
           SINK, _sinks(lambda lane: lane.rejected)),
    Figure("kexport_sink_dropped_events", "counter", "Events lost to the sink: journal overrun or damaged.",
           SINK, lambda view: [((name,), view.dropped(name)) for name in view.stats.lanes]),
    Figure("kexport_sink_skipped_events", "counter", "Events lost to the sink: skipped by an operator.",
           SINK, _sinks(lambda lane: lane.skipped)),
    Figure("kexport_sink_parked_events", "counter", "Events stored elsewhere by an operator, not delivered.",
           SINK, _sinks(lambda lane: lane.parked)),
    Figure("kexport_sink_retries", "counter", "Waits after a write that failed.",
           SINK, _sinks(lambda lane: lane.retries)),
    Figure("kexport_sink_state", "gauge", "1 for the state that the sink is in.",
           ("sink", "state"), _states("lanes")),
    Figure("kexport_sink_lag_events", "gauge", "Events observed that the sink is not done with.",
           SINK, _lag(0)),
    Figure("kexport_sink_lag_seconds", "gauge", "How long ago the oldest of these was observed.",
           SINK, _lag(1), "seconds"),
    Figure("kexport_sink_success_age_seconds", "gauge", "How long ago a write was last acknowledged.",
           SINK, _sinks(lambda lane: _age(lane.succeeded)), "seconds"),
    Figure("kexport_sink_write_seconds", "histogram", "Duration of writes, failed ones included.",
           SINK, _sinks(lambda lane: lane.writes), "seconds"),
    # What routes keep from a sink; all of it is among the filtered events.
    Figure("kexport_route_undecided_events", "counter",
           "Events of objects for which the route's labels or where have no answer, such as a missing field.",
           ROUTE, _routes(lambda route: route.undecided)),
    Figure("kexport_route_sampled_out_events", "counter", "Events that the route's sample left out.",
           ROUTE, _routes(lambda route: route.sampled_out)),
    Figure("kexport_route_rate_limited_events", "counter",
           "Events above the route's max_events_per_second; lost to the sink.",
           ROUTE, _routes(lambda route: route.rate_limited)),
    # The journal.
    Figure("kexport_journal_bytes", "gauge", "Bytes of stored events, compressed.",
           (), _one(lambda view: view.journal.retention.bytes), "bytes"),
    Figure("kexport_journal_max_bytes", "gauge", "Most bytes of stored events (journal.max_bytes).",
           (), _one(lambda view: view.journal.retention.max_bytes), "bytes"),
    Figure("kexport_journal_wanted_ratio", "gauge",
           "How much of max_bytes is taken by what some sink still wants, by the number of events.",
           (), _one(_wanted), "ratio"),
    Figure("kexport_journal_oldest_event_age_seconds", "gauge", "Age of the oldest stored event.",
           (), _one(_oldest), "seconds"),
    Figure("kexport_journal_failing", "gauge", "1 while the journal cannot be written.",
           (), _one(lambda view: bool(view.journal.failing))),
    Figure("kexport_journal_full", "gauge", "1 while watching is paused, since the journal is full.",
           (), _one(lambda view: view.journal.full)),
    Figure("kexport_journal_commit_seconds", "histogram", "Duration of transactions.",
           (), _one(lambda view: view.journal.tally.commits), "seconds"),
    # The configuration and what runs.
    Figure("kexport_config_reloads", "counter", "Changed configurations put in force.",
           (), _one(lambda view: view.stats.reloads)),
    Figure("kexport_config_reload_failures", "counter", "Changed configurations that were refused.",
           (), _one(lambda view: view.stats.reload_failures)),
    Figure("kexport_config_last_reload_successful", "gauge", "0 while the newest configuration is refused.",
           (), _one(lambda view: not view.stats.reload_error)),
    Figure("kexport_config_last_reload_success_timestamp_seconds", "gauge",
           "When the configuration in force was loaded, in Unix time.",
           (), _one(lambda view: view.stats.reloaded_at), "seconds"),
    Figure("kexport_otlp_pushes", "counter", "Readings of these metrics that were accepted over OTLP.",
           (), _pushes(lambda view: view.stats.pushes)),
    Figure("kexport_otlp_push_failures", "counter", "Readings of these metrics that could not be sent.",
           (), _pushes(lambda view: view.stats.push_failures)),
    Figure("kexport_build", "info", "The version that runs.", ("version", "python"),
           lambda _view: [((__version__, sys.version.split()[0]), 1)]),
    Figure("kexport_sink", "info", "Which plugin each sink is of.",
           ("sink", "type", "distribution", "version"), _makers),
)  # fmt: skip
