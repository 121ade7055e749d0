"""`python -m tests.chaos`: one chaos run, its plan before and its report behind it."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.report import report
from tests.chaos.run import run


def main(arguments: list[str] | None = None) -> int:
    """0: nothing lost, invented or out of order; 1: something was, and the evidence is printed."""
    wanted = _parser().parse_args(arguments)
    seed = random.randrange(1 << 30) if wanted.seed is None else wanted.seed
    folder = (wanted.keep or Path(tempfile.mkdtemp(prefix="kexport-chaos-"))).absolute()
    made = run(
        folder,
        seed=seed,
        minutes=wanted.minutes,
        per_minute=wanted.per_minute,
        per_second=wanted.per_second,
        say=lambda text: print(text, flush=True),
    )
    print(f"\n{report(made)}\n")
    for line in made.evidence:
        print(line)
    print(f"logs, configuration and what the sinks hold: {folder}")
    return 0 if made.flawless else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long faults happen (20)")
    parser.add_argument("--seed", type=int, help="repeats the plan of another run of the same length")
    parser.add_argument("--per-minute", type=float, default=7.0, help="faults a minute (7)")
    parser.add_argument("--per-second", type=float, default=50.0, help="writes a second (50)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to put everything; must be new")
    return parser


if __name__ == "__main__":
    sys.exit(main())
