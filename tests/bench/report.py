"""The figures as text: aligned for the terminal, as Markdown for PERFORMANCE.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.figures import UNITS, Rows
from tests.bench.goals import judge

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
Table = list[list[str]]


def number(value: float) -> str:
    """Three digits that count, and no more than two behind the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(values: Sequence[float]) -> str:
    """`median (least-most)`; one run has no spread."""
    if not values:
        return ""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}-{number(max(values))})"


def tables(rows: Rows, *, judged: bool = True) -> dict[str, Table]:
    """A table for each scenario, and one of the goals if they are `judged`; the first line is its head."""
    made: dict[str, Table] = {}
    for scenario in dict.fromkeys(scenario for scenario, _ in rows.values):
        of = {row: figures for (each, row), figures in rows.values.items() if each == scenario}
        names = [name for name in UNITS if any(name in figures for figures in of.values())]
        table = [[scenario, *(UNITS[name] for name in names), ""]]
        for row, figures in of.items():
            cells = [cell(figures.get(name, ())) for name in names]
            table.append([row, *cells, rows.notes.get((scenario, row), "")])
        made[scenario] = _without_empty_last(table)
    if not judged:
        return made
    made["goals"] = [["goal", "at most, or least", "measured", ""]]
    for verdict in judge(rows):
        value = "" if verdict.value is None else number(verdict.value)
        made["goals"].append([verdict.goal.what, verdict.goal.limit_text, value, verdict.text])
    return made


def _without_empty_last(table: Table) -> Table:
    return table if any(line[-1] for line in table) else [line[:-1] for line in table]


def plain(table: Table) -> str:
    """Columns of equal width: the first to the left, figures to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = []
    for line in table:
        first, *rest = line
        padded = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return "\n".join(lines)


def markdown(table: Table) -> str:
    head, *body = table
    ruler = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ruler, *body])


def write_into(path: Path, document: dict[str, Any]) -> None:
    """Put the tables between the two marks of a Markdown file; raises ValueError when it has none."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines {BEGIN} and {END}: put them where the tables belong")
    rows = Rows.of(document["rows"])
    made = tables(rows, judged=not document["quick"])
    last = made.pop("goals", None)
    goals = [last] if last else []
    parts = [_machine(document), *(markdown(table) for table in (*goals, *made.values()))]
    text = "\n\n".join(parts)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _machine(document: dict[str, Any]) -> str:
    found = document["environment"]
    quick = (
        " Counts were cut short (--quick): these show that it works, not how fast."
        if document["quick"]
        else ""
    )
    return (
        f"{found['cores']} cores ({found['processor']}), {found['memory_gb']} GB, {found['system']},"
        f" Python {found['python']}, SQLite {found['sqlite']}; runs: {_runs(Rows.of(document['rows']))};"
        f" load before: {found['load_before']:.2f}.{quick}"
    )


def _runs(rows: Rows) -> str:
    """How often things were measured: `3`, or `1 to 3`."""
    counts = sorted({len(values) for figures in rows.values.values() for values in figures.values()})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"
