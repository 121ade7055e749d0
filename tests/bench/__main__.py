"""`python -m tests.bench`: measure, print tables, and write every value of every run as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.child import BenchError
from tests.bench.delay import delay
from tests.bench.exporting import Bench
from tests.bench.far_ends import FarEnds
from tests.bench.figures import Rows, environment
from tests.bench.firehose import cost, firehose, journal
from tests.bench.growth import catchup, growth
from tests.bench.idle import idle, start
from tests.bench.listing import listing
from tests.bench.peers import peers
from tests.testbed import NotBuiltError, ServerError

QUICK = 0.01
SCENARIOS: dict[str, Callable[[Bench, FarEnds], None]] = {
    "start": start,
    "idle": idle,
    "firehose": firehose,
    "journal": journal,
    "cost": cost,
    "delay": delay,
    "listing": listing,
    "growth": growth,
    "catchup": catchup,
    "peers": peers,
}


def main(arguments: list[str] | None = None) -> int:
    """0 when every scenario gave its figures, whether or not they are what they should be."""
    wanted = _parser().parse_args(arguments)
    if wanted.write and wanted.only == ["none"]:
        report.write_into(wanted.write, json.loads(wanted.json.read_text(encoding="utf-8")))
        return 0
    document: dict[str, Any] = {"environment": environment(), "runs": wanted.runs, "quick": wanted.quick}
    rows = _kept(wanted)

    def keep() -> None:
        """After each scenario: a long run that is broken off has measured something."""
        document["rows"] = rows.document()
        wanted.json.parent.mkdir(parents=True, exist_ok=True)
        wanted.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    failed = _measure(wanted, rows, keep)
    for table in report.tables(rows, judged=not wanted.quick).values():
        print(f"\n{report.plain(table)}")
    print(f"\nevery value of every run: {wanted.json}")
    if wanted.write:
        report.write_into(wanted.write, document)
    return 1 if failed else 0


def _kept(wanted: argparse.Namespace) -> Rows:
    """With --add the figures that the file has of other scenarios."""
    if not (wanted.add and wanted.json.exists()):
        return Rows()
    stored = json.loads(wanted.json.read_text(encoding="utf-8"))["rows"]
    return Rows.of(each for each in stored if each["scenario"] not in wanted.only)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [*SCENARIOS, "none"]
    only = "these scenarios (default: all); none: take the figures of an earlier run's JSON file"
    parser.add_argument(
        "--only", nargs="+", choices=names, default=list(SCENARIOS), metavar="NAME", help=only
    )
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it, to see that it works")
    parser.add_argument("--full", action="store_true", help="also what takes long: a lane a million behind")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the values go")
    parser.add_argument("--add", action="store_true", help="keep what that file has of other scenarios")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file to put the tables into")
    parser.add_argument(
        "--folder", type=Path, help="folder on the disk to measure (default: temporary files')"
    )
    return parser


def _measure(wanted: argparse.Namespace, rows: Rows, keep: Callable[[], None]) -> bool:
    """All scenarios, all runs; whether one gave no figures."""
    failed = False
    with tempfile.TemporaryDirectory(prefix="kexport-bench-", dir=wanted.folder) as name:
        folder = Path(name)
        for run in range(1, wanted.runs + 1):
            # New servers each time, so that a run doesn't pay for what the one before left there.
            with FarEnds(folder / f"ends-{run}") as ends:
                for scenario in dict.fromkeys(wanted.only):
                    place = folder / f"{scenario}-{run}"
                    place.mkdir()
                    scale = QUICK if wanted.quick else 1.0
                    bench = Bench(rows, place, scale=scale, full=wanted.full)
                    failed |= not _attempt(scenario, run, bench, ends)
                    keep()
    return failed


def _attempt(scenario: str, run: int, bench: Bench, ends: FarEnds) -> bool:
    began = time.monotonic()
    try:
        SCENARIOS[scenario](bench, ends)
    except NotBuiltError as error:
        bench.rows.note(scenario, "the rest", f"absent: {error}")
        print(f"run {run}, {scenario}: {error}", file=sys.stderr, flush=True)
        return False
    except (BenchError, ServerError) as error:
        bench.rows.note(scenario, "the rest", "gave no figure")
        print(f"run {run}, {scenario}: {error}", file=sys.stderr, flush=True)
        return False
    print(f"run {run}, {scenario}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
