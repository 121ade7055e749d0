"""The state as one JSON document: `/status.json`, and what the status page shows.

Stable: members may come, none changes its meaning or goes within a major version. Times are RFC 3339 in UTC,
ages and durations seconds; `null` stands for what has not happened yet. Secrets of the configuration are
shown by their names.

- `version`, `cluster` ("" before it was reached), `pid`, `started`, `uptime_seconds`, `ready`
- `streams[]`: `key`, `state`, `synced`, `error`, `resource_version`, `changes`, `snapshots`, `watches`,
  `gaps`, `inferred`, `heard_seconds`, `bookmark_seconds`
- `waiting[]`: configured resources that the server does not have (yet)
- `sinks[]`: `name`, `type`, `state`, `error`, `lag_events`, `lag_seconds`, `journal_share` (how much of what
  is stored this sink still wants, 0 to 1), `delivered`, `filtered`, `rejected`, `dropped`, `skipped`,
  `parked`, `retries`, `held` (`position` and `id` of the event that it waits to deliver after trouble),
  `success_seconds`
- `journal`: `bytes`, `max_bytes`, `events`, `oldest_seconds`, `failing` ("" or why), `full`
- `config`: `reloads`, `failures`, `error`, `loaded`
- `gaps[]`, newest first: the data of the last gap and rollback events, with `kind` and `time`
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from kexport import __version__, health
from kexport.event import OBJECT
from kexport.tally import Seen
from kexport.telemetry import LaneStats, StreamStats
from kexport.view import View

STARTED = time.time()
_MOST_LINES = 40
_MOST_CHARACTERS = 200
_OF_COURSE = frozenset({"/metadata/resourceVersion", "/metadata/generation"})  # each change has them
_json = msgspec.json.Decoder()


def document(view: View) -> dict[str, Any]:
    """What `/status.json` answers."""
    stats, changed = view.stats, _changed(view)
    return {
        "version": __version__,
        "cluster": view.cluster,
        "pid": os.getpid(),
        "started": _stamp(STARTED),
        "uptime_seconds": _round(time.time() - STARTED),
        "ready": health.ready(health.checks(view)),
        "streams": [_stream(view, key, each, changed[key]) for key, each in stats.streams.items()],
        "waiting": list(stats.waiting),
        "sinks": [_sink(view, name, each) for name, each in stats.lanes.items()],
        "journal": _journal(view),
        "config": {
            "reloads": stats.reloads,
            "failures": stats.reload_failures,
            "error": view.masked(stats.reload_error),
            "loaded": _stamp(stats.reloaded_at),
        },
        "gaps": [*reversed(view.journal.tally.recent_gaps)],
    }


def changes(view: View) -> list[dict[str, Any]]:
    """The newest events in short, newest first; `diff` has a readable line for each operation of a patch."""
    return [_change(seen) for seen in reversed(view.journal.tally.recent)]


def _changed(view: View) -> Counter[str]:
    """How many changes of each stream became events, in whatever way they came to be known."""
    totals: Counter[str] = Counter()
    for (stream, kind, _), count in view.journal.tally.changes.items():
        if kind.startswith(OBJECT):
            totals[stream] += count
    return totals


def _stream(view: View, key: str, stream: StreamStats, changed: int) -> dict[str, Any]:
    return {
        "key": key,
        "state": stream.state,
        "synced": stream.synced,
        "error": view.masked(stream.error),
        "resource_version": stream.version,
        "changes": changed,
        "snapshots": stream.snapshots,
        "watches": stream.watches,
        "gaps": stream.gaps,
        "inferred": stream.inferred,
        "heard_seconds": _age(stream.heard),
        "bookmark_seconds": _age(stream.bookmark),
    }


def _sink(view: View, name: str, lane: LaneStats) -> dict[str, Any]:
    tally, settings = view.journal.tally, view.config().sinks.get(name)
    events, seconds = tally.lag(lane.cursor)
    stored = tally.newest - view.journal.retention.first
    return {
        "name": name,
        "type": settings.type.name if settings else "",
        "state": lane.state,
        "error": view.masked(lane.error),
        "lag_events": events,
        "lag_seconds": _round(seconds),
        "journal_share": _round(min(1.0, events / stored)) if stored > 0 else 0.0,
        "delivered": lane.written,
        "filtered": lane.filtered,
        "rejected": lane.rejected,
        "dropped": view.dropped(name),
        "skipped": lane.skipped,
        "parked": lane.parked,
        "retries": lane.retries,
        "held": {"position": lane.held_at, "id": lane.held_id} if lane.held_at else None,
        "success_seconds": _age(lane.succeeded),
    }


def _journal(view: View) -> dict[str, Any]:
    journal = view.journal
    first, tally = journal.retention.first, journal.tally
    events = max(0, tally.newest - first)
    return {
        "bytes": journal.retention.bytes,
        "max_bytes": journal.retention.max_bytes,
        "events": events,
        "oldest_seconds": _round(tally.age(first)) if events else None,
        "failing": view.masked(journal.failing),
        "full": journal.full,
    }


def _change(seen: Seen) -> dict[str, Any]:
    attributes = seen.attributes
    return {
        "id": attributes.id,
        "time": attributes.time,
        "change": attributes.type.rpartition(".")[2],
        "origin": attributes.origin,
        "manager": attributes.manager,
        "resource": attributes.resource,
        "key": attributes.subject,
        "version": attributes.resourceversion,
        "diff": list(_patch(_json.decode(seen.line)["data"].get("patch", ()))) if seen.line else [],
    }


def _patch(operations: Iterable[dict[str, Any]]) -> Iterable[str]:
    """An RFC 6902 patch for reading: a line an operation, without what every change has."""
    signs = {"add": "+", "remove": "-", "replace": "~"}
    telling = (each for each in operations if each["path"] not in _OF_COURSE)
    for number, operation in enumerate(telling):
        if number == _MOST_LINES:
            yield "…"
            return
        sign = signs.get(operation["op"], operation["op"])
        value = msgspec.json.encode(operation["value"]).decode() if "value" in operation else ""
        line = f"{sign} {operation['path']}" + (f" = {value}" if value else "")
        yield line if len(line) <= _MOST_CHARACTERS else line[:_MOST_CHARACTERS] + "…"


def _stamp(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _age(moment: float) -> float | None:
    """Seconds since a monotonic time; None before it happened for the first time."""
    return _round(max(0.0, time.monotonic() - moment)) if moment else None


def _round(seconds: float) -> float:
    return round(seconds, 3)
