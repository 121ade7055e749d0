"""A run as text: what it was, what was done to it, what came of it."""

from __future__ import annotations

import json
import math
import platform
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from tests.chaos.run import Run
from tests.chaos.verdict import KINDS
from tests.testbed.recipes import ETCD, KAFKA, KUBERNETES, VERSITYGW


def report(run: Run) -> str:
    """Markdown, with everything that is needed to repeat it."""
    return "\n".join([*_head(run), "", *verdicts(run), "", *_faults(run)])


def _head(run: Run) -> list[str]:
    changes = max((verdict.changes for verdict in run.verdicts.values()), default=0)
    recoveries = _recoveries(run)
    requests = [each["requests"] for each in recoveries]
    seconds = sum(each["seconds"] for each in recoveries)
    lines = [
        versions(run),
        (
            f"{run.chaos_seconds / 60:.1f} minutes, {changes:,} changes in etcd"
            f" ({changes / max(run.chaos_seconds, 1):.0f}/s), {len(run.performed)} faults;"
            f" {run.end_seconds:.0f} s later every sink had settled."
        ),
        (
            f"{len(requests)} gaps were read back from history with {sum(requests):,} requests"
            f" (most for one: {max(requests, default=0):,}) in {seconds:.1f} s."
        ),
        (
            f"kexport ended by itself and was started again {run.restarts} times;"
            f" exit code in the end: {run.exit_code}."
        ),
        (
            f"Repeat: `python -m tests.chaos --minutes {run.minutes:g} --per-minute {run.per_minute:g}"
            f" --per-second {run.per_second:g} --seed {run.seed}`."
        ),
    ]
    if run.without:
        lines.append(
            f"Not troubled, for want of the right to mount or of a C compiler: {', '.join(run.without)}."
        )
    return lines


def versions(run: Run) -> str:
    """What ran, and from which seed."""
    parts = ", ".join(f"{part.name} {part.version}" for part in (KUBERNETES, ETCD, KAFKA, VERSITYGW))
    return f"Seed {run.seed}; kexport {version('kexport')}, Python {platform.python_version()}; {parts}."


def verdicts(run: Run) -> list[str]:
    """A table of what each sink was found to hold."""
    heads = ["changes", "delivered", *KINDS, "repeated", "recovered", "inferred", "gaps", "announced"]
    rows = []
    for sink, verdict in run.verdicts.items():
        gaps = [gap for each in verdict.gaps.values() for gap in each]
        open_gaps = sum(not gap.complete for gap in gaps)
        cells: list[object] = [
            verdict.changes,
            verdict.delivered,
            *map(verdict.count, KINDS),
            verdict.repeated,
        ]
        cells += [verdict.recovered, verdict.inferred, f"{len(gaps)} ({open_gaps} open)", verdict.announced]
        rows.append([sink, *cells])
    return table(["sink", *heads], rows)


def _faults(run: Run) -> list[str]:
    """Caught up: the sink has all that etcd had when the fault was lifted; later faults may delay it."""
    by_kind = defaultdict(list)
    for each in run.performed:
        by_kind[each.fault.kind.target, each.fault.kind.name].append(each)
    rows = []
    for (target, name), them in sorted(by_kind.items()):
        seconds = sorted(each.caught_up_seconds for each in them if each.caught_up_seconds is not None)
        figures = [f"{percentile(seconds, part):.1f}" if seconds else "-" for part in (0.5, 0.99)]
        never = len(them) - len(seconds)
        rows.append([f"{target} {name}", len(them), *figures, them[0].sink, never or ""])
    return table(["fault", "times", "caught up p50 s", "p99 s", "seen in", "not seen"], rows)


def percentile(ordered: Sequence[float], part: float) -> float:
    """By nearest rank: a value that was measured."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def _recoveries(run: Run) -> list[dict[str, Any]]:
    """What kexport's log says about each reading of history; a killed one has not said it."""
    lines = run.log.read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if '"history was read back"' in line]


def table(heads: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Markdown's."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]
