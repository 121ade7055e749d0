"""What to look at when a verdict isn't clean: etcd's versions, what sink and journal have, and the log."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from tests.chaos.verdict import KINDS, Flaw, Verdict
from tests.chaos.world import World

EXAMPLES = 3
AROUND = 4
LOG_LINES = 12
LOG_SECONDS = 8.0


def evidence(sink: str, verdict: Verdict, lines: Sequence[bytes], world: World) -> list[str]:
    """A few examples of each kind of flaw, compactly; nothing when there are none."""
    told = []
    for kind in KINDS:
        flaws = [flaw for flaw in verdict.flaws if flaw.kind == kind]
        for flaw in flaws[:EXAMPLES]:
            told += [f"{sink}: {kind} (one of {len(flaws)}): {flaw.thing} {flaw.version} {flaw.what}"]
            told += [f"    {line}" for line in _about(flaw, lines, verdict, world)]
    return told


def _about(flaw: Flaw, lines: Sequence[bytes], verdict: Verdict, world: World) -> Iterator[str]:
    steps = world.truth.steps.get(flaw.thing, [])
    near = min(range(len(steps)), key=lambda at: abs(steps[at].version - flaw.version), default=0)
    shown = steps[max(0, near - AROUND) : near + AROUND + 1] if flaw.version else steps[-AROUND:]
    yield "etcd:    " + ", ".join(f"{step.version} {step.change}" for step in shown)
    low, high = (shown[0].version, shown[-1].version) if shown else (0, 1 << 62)
    name = json.dumps(flaw.thing[1]).encode()
    yield "sink:    " + _told((line for line in lines if name in line), flaw, low, high)
    yield "journal: " + _told((line for line in _journal(world.journal) if name in line), flaw, low, high)
    gaps = verdict.gaps.get(flaw.thing[0], [])
    yield "gaps:    " + ", ".join(f"{gap.since}-{gap.until} complete={gap.complete}" for gap in gaps[-8:])
    if steps:
        yield from _logged(world.log, steps[near].at)


def _told(lines: Iterator[bytes], flaw: Flaw, low: int, high: int) -> str:
    found = []
    for line in lines:
        event: dict[str, Any] = msgspec.json.decode(line)
        mine = (event.get("resource"), event.get("subject")) == flaw.thing
        if mine and low <= int(event.get("resourceversion") or 0) <= high:
            change = event["type"].rpartition(".")[2]
            found.append(f"{event['resourceversion']} {change} {event['origin']} {event['time']}")
    return ", ".join(found) or "nothing of these versions"


def _journal(directory: Path) -> Iterator[bytes]:
    """The stored events, of every database there is in the journal's directory."""
    for path in directory.iterdir():
        if not path.is_file() or path.read_bytes()[:15] != b"SQLite format 3":
            continue
        with closing(sqlite3.connect(path)) as database:
            for (data,) in database.execute("SELECT data FROM chunks ORDER BY last"):
                frames = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
                yield from frames.read().splitlines()


def _logged(log: Path, at: float) -> Iterator[str]:
    """Lines of kexport's log from around that moment."""
    lines = log.read_text(errors="replace").splitlines()
    yield from [line for line in lines if abs(_seconds(line) - at) < LOG_SECONDS][:LOG_LINES]


def _seconds(line: str) -> float:
    try:
        return datetime.fromisoformat(json.loads(line)["time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return 0.0
