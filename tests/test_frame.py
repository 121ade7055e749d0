"""A picture of `kexport top`: what it shows at any size, and that nothing in it acts on the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from kexport.frame import Look, Size, frame, lines_of

HOSTILE = "\x1b]0;owned\x07\x1b[2Jweb[bold red]\u202e\n\rx"


def stream(key: str = "pods/*", **more: Any) -> dict[str, Any]:
    return {"key": key, "state": "watching", "error": "", "changes": 5, "heard_seconds": 2.0, **more}


def sink(name: str = "audit", **more: Any) -> dict[str, Any]:
    fine = {"state": "delivering", "error": "", "lag_events": 0, "lag_seconds": 0.0, "delivered": 7}
    return {"name": name, **fine, "retries": 0, "journal_share": 0.0, "held": None, **more}


def change(key: str = "shop/web", **more: Any) -> dict[str, Any]:
    at = "2026-11-25T13:00:01.000000Z"
    return {"time": at, "change": "modified", "origin": "watch", "resource": "pods", "key": key, **more}


def look(at: float = 0.0, changes: int = 0, **status: Any) -> Look:
    journal = {"bytes": 2_500_000, "max_bytes": 10_000_000, "events": 7, "oldest_seconds": 60.0}
    document = {
        "version": "1.0", "cluster": "prod", "pid": 7, "uptime_seconds": 300.0, "ready": True,
        "streams": [stream()], "sinks": [sink()], "gaps": [],
        "journal": {**journal, "failing": "", "full": False}, **status,
    }  # fmt: skip
    return Look(at, document, [change(f"shop/web-{number}") for number in range(changes)])


def drawn(
    seen: Look | None, before: Look | None = None, columns: int = 80, lines: int = 24, note: str = ""
) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=columns, height=lines, color_system=None)
    console.print(frame(seen, before, Size(columns, lines), note=note))
    return out.getvalue().splitlines()


def row(lines: list[str], name: str) -> list[str]:
    return next(line.split() for line in lines if line.startswith(name))


def test_streams_sinks_journal_and_changes_are_there() -> None:
    lines = drawn(look(changes=3))
    assert lines[0].startswith("kexport 1.0  prod  process 7, up 5 min  ready")
    assert lines[1] == "journal 2 MB of 10 MB (25%), 7 events, the oldest 60 s old"
    assert row(lines, "pods/*") == ["pods/*", "watching", "-", "2", "s", "5"]
    assert row(lines, "audit") == ["audit", "delivering", "0", "0", "s", "-", "0", "0%"]
    assert lines[-3:] == [f"13:00:01 modified pods shop/web-{number}" for number in range(3)]


def test_rates_are_since_an_earlier_look_at_the_same_process() -> None:
    now = look(10.0, streams=[stream(changes=105)], sinks=[sink(delivered=27)])
    assert row(drawn(now, look(0.0)), "pods/*")[2] == "10/s"
    assert row(drawn(now, look(0.0)), "audit")[5] == "2.0/s"
    assert row(drawn(now, look(0.0, pid=8)), "pods/*")[2] == "-"
    assert row(drawn(now, look(0.0, streams=[stream("nodes/*")])), "pods/*")[2] == "-"
    assert row(drawn(now, look(0.0, streams=[stream(changes=900)])), "pods/*")[2] == "0/s"


@pytest.mark.parametrize("columns", [40, 80, 109, 110, 200])
@pytest.mark.parametrize("lines", [8, 12, 24, 50])
def test_it_fits_whatever_there_is_to_show(columns: int, lines: int) -> None:
    error = "connection refused " * 9
    crowded = look(
        changes=50,
        streams=[stream(f"resource-{n}.example.com/{'n' * 60}", error=error) for n in range(30)],
        sinks=[sink(f"sink-{n}", state="retrying", error=error, lag_events=n) for n in range(20)],
        gaps=[gap() for _ in range(20)],
    )
    shown = drawn(crowded, columns=columns, lines=lines)
    assert len(shown) <= lines
    assert max(map(len, shown)) <= columns
    assert any("more streams" in line for line in shown)
    assert any("more sinks" in line for line in shown)


def gap(**more: Any) -> dict[str, Any]:
    at = "2026-11-25T12:00:00.000000Z"
    told = {"kind": "gap", "time": at, "stream": "pods/*", "reason": "expired", "complete": False}
    return {**told, "added": 1, "modified": 2, "deleted": 0, **more}


def test_without_a_terminal_everything_is_shown() -> None:
    crowded = look(
        changes=50, streams=[stream(f"s{n}") for n in range(30)], gaps=[gap()] * 4,
        sinks=[sink(f"k{n}", error="away") for n in range(20)],
    )  # fmt: skip
    shown = drawn(crowded, lines=lines_of(crowded))
    assert not any("more" in line for line in shown)
    assert len(shown) == 2 + 31 + 21 + 20 + 4 + 50


def test_what_is_in_trouble_comes_first_and_says_why() -> None:
    held = sink("late", state="held", error="too large", held={"position": 17, "id": "u/1"}, lag_events=3)
    waiting = [stream(f"s{n}") for n in range(30)] + [stream("bad", state="forbidden", error="no")]
    seen = look(sinks=[*(sink(f"k{n}") for n in range(30)), held], streams=waiting)
    narrow, wide = drawn(seen), drawn(seen, columns=140)
    for lines in (narrow, wide):
        assert any("held at event 17: too large" in line for line in lines)
        assert lines[3].startswith("bad")
    assert wide[3].rstrip().endswith("no")


def test_gaps_are_red_and_say_what_was_lost() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, color_system="standard", force_terminal=True)
    seen = look(gaps=[gap(), gap(complete=True), gap(kind="rollback", reason="rollback")])
    console.print(frame(seen, None, Size(100, 24)))
    text = out.getvalue()
    assert "\x1b[1;31mgap 12:00:00 pods/*: expired, 3 changes inferred" in text
    assert "expired, read back whole" in text
    assert "rollback 12:00:00" in text


def test_a_journal_in_trouble_is_said() -> None:
    journal = look().status["journal"]
    failing = drawn(look(journal={**journal, "failing": "disk I/O error"}))
    assert failing[0] == "the journal cannot be written: disk I/O error"
    assert drawn(look(journal={**journal, "full": True}))[0] == "the journal is full: watching is paused"
    assert "not ready" in drawn(look(ready=False))[0]
    note, head = drawn(look(), note="kexport does not run")[:2]
    assert (note, "as it was" in head, "ready" in head) == ("kexport does not run", True, False)


def test_nothing_from_a_cluster_acts_on_the_terminal() -> None:
    seen = look(
        version=HOSTILE, cluster=HOSTILE, streams=[stream(HOSTILE, state=HOSTILE, error=HOSTILE)],
        sinks=[sink(HOSTILE, state=HOSTILE, error=HOSTILE)],
        gaps=[gap(kind=HOSTILE, stream=HOSTILE, reason=HOSTILE)],
    )  # fmt: skip
    hostile = {"change": HOSTILE, "origin": HOSTILE, "resource": HOSTILE}
    seen = seen._replace(changes=[change(HOSTILE, **hostile)])
    for columns in (80, 140):
        text = "\n".join(drawn(seen, columns=columns, note=HOSTILE))
        assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}
        assert "web[bold red]" in text, "no markup either"
