"""One picture of a running exporter for `kexport top`, as wide and high as the terminal. Pure.

Names and errors come from a cluster or a far end: they are shown as text, and never act on the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kexport.terminal import plain

WIDE = 110  # columns from which on errors stand in the rows
_CHANGES = {"added": "green", "modified": "yellow", "deleted": "red", "left": "red"}
_FINE = frozenset({"watching", "delivering"})


class Look(NamedTuple):
    """What the exporter said at a moment (monotonic seconds)."""

    at: float
    status: dict[str, Any]
    changes: list[dict[str, Any]]


class Size(NamedTuple):
    columns: int
    lines: int


def frame(look: Look | None, before: Look | None, size: Size, *, note: str = "") -> Group:
    """The picture; rates are since `before`, and `note` says what is wrong or special."""
    if look is None:
        return Group(_text(note or "waiting", "bold red"))
    status = look.status
    troubles = [_text(each, "bold red") for each in (note, _journal_trouble(status["journal"])) if each]
    left = size.lines - 3 - len(troubles)
    gaps = _gaps(status["gaps"], min(left // 5, 4))
    errors = size.columns < WIDE
    sinks = _sinks(status["sinks"], _Rates(look, before, "sinks"), max(2, left // 3), errors=errors)
    left -= sinks.lines + gaps.lines
    rates = _Rates(look, before, "streams")
    streams = _streams(status["streams"], rates, max(2, left * 3 // 5), wide=not errors)
    changes = _changes(look.changes, left - streams.lines)
    parts: list[RenderableType] = [*troubles, _head(status, stale=bool(note)), _journal(status["journal"])]
    parts += [each.shown for each in (streams, sinks, gaps, changes) if each.lines > 0]
    return Group(*parts)


class _Part(NamedTuple):
    shown: RenderableType
    lines: int


class _Rates:
    """Events a second of each stream or sink between two looks at the same process."""

    def __init__(self, look: Look, before: Look | None, what: str) -> None:
        self._name, self._count = ("key", "changes") if what == "streams" else ("name", "delivered")
        same = before is not None and before.status["pid"] == look.status["pid"] and look.at > before.at
        self._seconds = look.at - before.at if before and same else 0.0
        self._before = {each[self._name]: each for each in before.status[what]} if before and same else {}

    def of(self, row: Mapping[str, Any]) -> str:
        before = self._before.get(row[self._name])
        if not before:
            return "-"
        rate = max(0, row[self._count] - before[self._count]) / self._seconds
        return f"{rate:.0f}/s" if rate >= 10 or not rate else f"{rate:.1f}/s"


def _head(status: Mapping[str, Any], *, stale: bool) -> Text:
    head = _text(f"kexport {status['version']}  {status['cluster'] or 'no cluster yet'}", "bold")
    head.append(f"  process {status['pid']}, up {_seconds(status['uptime_seconds'])}  ")
    if stale:
        head.append("as it was", "yellow")
    else:
        head.append("ready" if status["ready"] else "not ready", "green" if status["ready"] else "bold red")
    head.append("  q quit  p pause", "dim")
    return head


def _journal(journal: Mapping[str, Any]) -> Text:
    share = journal["bytes"] / journal["max_bytes"]
    return _text(
        f"journal {_bytes(journal['bytes'])} of {_bytes(journal['max_bytes'])} ({share:.0%}),"
        f" {journal['events']} events, the oldest {_seconds(journal['oldest_seconds'])} old"
    )


def _journal_trouble(journal: Mapping[str, Any]) -> str:
    if journal["failing"]:
        return f"the journal cannot be written: {journal['failing']}"
    return "the journal is full: watching is paused" if journal["full"] else ""


def _streams(rows: Sequence[Mapping[str, Any]], rates: _Rates, lines: int, *, wide: bool) -> _Part:
    table = _table(("STREAM", 3), "STATE", "RATE", "HEARD", "CHANGES", *((("ERROR", 5),) if wide else ()))
    rows = sorted(rows, key=lambda each: (each["state"] in _FINE, -each["changes"]))
    shown, more = _fit(rows, lines - 1)
    for each in shown:
        cells = [
            _text(each["key"]), _state(each["state"]), _text(rates.of(each)),
            _text(_seconds(each["heard_seconds"])), _text(f"{each['changes']}"),
        ]  # fmt: skip
        table.add_row(*cells, *([_text(each["error"], "red")] if wide else []))
    return _counted(table, len(shown), more, "streams")


def _sinks(rows: Sequence[Mapping[str, Any]], rates: _Rates, lines: int, *, errors: bool) -> _Part:
    table = _table(
        ("SINK", 2),
        "STATE",
        "BEHIND",
        "LAG",
        "RATE",
        "RETRIES",
        "JOURNAL",
        *(() if errors else (("ERROR", 5),)),
    )
    rows = sorted(rows, key=lambda each: (each["state"] in _FINE and not each["error"], -each["lag_events"]))
    shown, more = _fit(rows, lines - 1)
    below: list[Text] = []
    for each in shown:
        problem = _trouble(each)
        cells = [
            _text(each["name"]), _state(each["state"]), _text(f"{each['lag_events']}"),
            _text(_seconds(each["lag_seconds"])), _text(rates.of(each)), _text(f"{each['retries']}"),
            _text(f"{each['journal_share']:.0%}"),
        ]  # fmt: skip
        table.add_row(*cells, *([] if errors else [_text(problem, "red")]))
        if errors and problem and len(shown) + len(below) + 1 < lines:
            below.append(_text(f"  {each['name']}: {problem}", "red"))
    part = _counted(table, len(shown), more, "sinks")
    return _Part(Group(part.shown, *below), part.lines + len(below)) if below else part


def _trouble(sink: Mapping[str, Any]) -> str:
    held = sink["held"]
    return f"held at event {held['position']}: {sink['error']}" if held else str(sink["error"])


def _gaps(gaps: Sequence[Mapping[str, Any]], lines: int) -> _Part:
    shown = gaps[: max(0, lines)]
    told = [
        _text(
            f"{each['kind']} {each['time'][11:19]} {each['stream']}: {each['reason']}{_lost(each)}",
            "bold red",
        )
        for each in shown
    ]
    return _Part(Group(*told), len(told))


def _lost(gap: Mapping[str, Any]) -> str:
    if gap.get("complete"):
        return ", read back whole"
    inferred = sum(int(gap.get(each) or 0) for each in ("added", "modified", "deleted"))
    return f", {inferred} changes inferred"


def _changes(changes: Sequence[Mapping[str, Any]], lines: int) -> _Part:
    told = []
    for each in changes[: max(0, lines)]:
        line = _text(f"{each['time'][11:19]} ")
        line.append(f"{plain(each['change']):<9}", _CHANGES.get(each["change"], "magenta"))
        line.append(f"{plain(each['resource'])} {plain(each['key'])}")
        if each["origin"] != "watch":
            line.append(f"  {plain(each['origin'])}", "dim")
        told.append(line)
    return _Part(Group(*told), len(told))


# -- cells --------------------------------------------------------------------------------------------------


def _table(*columns: str | tuple[str, int]) -> Table:
    """Rows of one line each; a column with a share takes what is left of the width."""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold cyan")
    for each in columns:
        name, share = each if isinstance(each, tuple) else (each, None)
        table.add_column(
            name,
            ratio=share,
            no_wrap=True,
            overflow="ellipsis",
            justify="left" if share or name == "STATE" else "right",
        )
    return table


def _fit(rows: Sequence[Mapping[str, Any]], lines: int) -> tuple[Sequence[Mapping[str, Any]], int]:
    """The rows that there is room for, and how many more there are: then a line says so."""
    if len(rows) <= lines:
        return rows, 0
    return rows[: max(0, lines - 1)], len(rows) - max(0, lines - 1)


def _counted(table: Table, rows: int, more: int, what: str) -> _Part:
    if not more:
        return _Part(table, rows + 1)
    return _Part(Group(table, _text(f"… {more} more {what}", "dim")), rows + 2)


def _state(state: str) -> Text:
    return _text(state, "green" if state in _FINE else "bold yellow")


def _text(text: str, style: str = "") -> Text:
    return Text(plain(text), style=style, no_wrap=True, overflow="ellipsis", end="\n")


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def lines_of(look: Look) -> int:
    """How many lines it takes to show everything."""
    rows: Iterable[int] = (len(look.status[each]) for each in ("streams", "sinks", "sinks", "gaps"))
    return 5 * (sum(rows) + len(look.changes) + 10)
