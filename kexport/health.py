"""Whether it lives, and whether it is ready: `/livez` and `/readyz`, in the form that the API server has.

Alive is who answers: a restart mends nothing that is not a bug. Ready means that nothing is missing and
nothing is late. Every configured stream is synced, and heard of lately if something interrupts it. Every sink
is within `ready_lag_seconds`. The journal can be written and has room. A stream that the API server forbids
is not ready at once, since waiting won't help, unless `ready_ignore_forbidden`. Said, and ready all the same:
a resource that the server does not have yet, a sink that retries but is not late, a refused reload, metrics
that cannot be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple

from kexport.tables import HttpConfig
from kexport.telemetry import LaneStats, StreamStats
from kexport.view import View


class Check(NamedTuple):
    """One thing that must be in order; `detail` says what is wrong, or worth knowing."""

    what: str
    ok: bool
    detail: str = ""


def checks(view: View) -> list[Check]:
    """Everything that readiness depends on, worked out now."""
    found = [_journal(view), *_streams(view), *_sinks(view), _configuration(view), *_push(view)]
    return [each._replace(detail=view.masked(each.detail)) for each in found]


def ready(found: list[Check]) -> bool:
    return all(check.ok for check in found)


def report(name: str, found: list[Check]) -> str:
    """A line a check, and the verdict."""
    lines = [_line(check) for check in found]
    return "\n".join([*lines, f"{name} check {'passed' if ready(found) else 'failed'}", ""])


def _line(check: Check) -> str:
    detail = " ".join(check.detail.split())
    if not check.ok:
        return f"[-]{check.what} failed: {detail}"
    return f"[+]{check.what} ok" + (f": {detail}" if detail else "")


def _journal(view: View) -> Check:
    journal = view.journal
    if journal.failing:
        return Check("journal", ok=False, detail=f"it cannot be written: {journal.failing}")
    if journal.full:
        return Check("journal", ok=False, detail="it is full, and watching is paused: see journal.max_bytes")
    return Check("journal", ok=True)


def _streams(view: View) -> Iterator[Check]:
    stats, config = view.stats, view.config().root.http
    if not stats.streams and not stats.waiting:
        yield Check("streams", ok=False, detail="none has begun: the API server has not answered yet")
    for key, stream in stats.streams.items():
        problem, detail = _stream(stream, config)
        yield Check(f"stream {key}", ok=not problem, detail=problem or detail)
    for name in stats.waiting:
        yield Check(f"resource {name}", ok=True, detail="the server does not have it; waiting for it")


def _stream(stream: StreamStats, config: HttpConfig) -> tuple[str, str]:
    """What is wrong, and what is worth knowing."""
    now = f"{stream.state}: {stream.error}" if stream.error else stream.state
    silent = monotonic() - stream.heard
    if stream.state == "forbidden":
        return ("", f"{now} (ignored)") if config.ready_ignore_forbidden else (now, "")
    if not stream.synced:
        return f"not synced yet, {now}", ""
    if stream.error and silent > config.ready_lag_seconds:
        return f"nothing heard for {silent:.0f} s, {now}", ""
    return "", now if stream.error else ""


def _sinks(view: View) -> Iterator[Check]:
    limit = view.config().root.http.ready_lag_seconds
    if not view.stats.lanes:
        yield Check("sinks", ok=False, detail="none has begun: their routes wait for the API server")
    for name, lane in view.stats.lanes.items():
        events, seconds = view.journal.tally.lag(lane.cursor)
        late = seconds > limit
        detail = _lagging(lane, events, seconds) if late or lane.error else ""
        if lane.state == "starting":
            yield Check(f"sink {name}", ok=False, detail=f"not open yet{', ' + detail if detail else ''}")
        else:
            yield Check(f"sink {name}", ok=not late, detail=detail)


def _lagging(lane: LaneStats, events: int, seconds: float) -> str:
    why = f"{lane.state}: {lane.error}" if lane.error else lane.state
    return f"lag {seconds:.0f} s, {events} events, {why}"


def _configuration(view: View) -> Check:
    refused = view.stats.reload_error
    detail = f"the newest one is refused, the one before is in force: {refused}" if refused else ""
    return Check("config", ok=True, detail=detail)


def _push(view: View) -> Iterator[Check]:
    if view.config().root.telemetry.otlp_endpoint:
        why = view.stats.push_error
        yield Check("metrics over OTLP", ok=True, detail=f"they cannot be sent: {why}" if why else "")
