"""`python -m tests.chaos.soak`: changes for an hour, a sink that is away half of it, and the memory it takes.

What grows with the changes, and not with what there is, shows as later minutes that take more than earlier
ones. The broker is killed for a minute, and back for a minute; every object is judged as in a chaos run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.plan import Fault, Kind
from tests.chaos.report import table, verdicts, versions
from tests.chaos.run import Run, carry_out
from tests.chaos.world import World

AWAY_SECONDS = 60.0
SAMPLE_SECONDS = 5.0
WINDOW_MINUTES = 5.0
WARM_UP_MINUTES = 5.0
"""Until each of its parts has been in use: the first outages, the first listing's garbage."""
MOST_AWAY_FROM_MEDIAN = 0.1
_UNTROUBLED = frozenset({"journal volume", "clock"})


class Sample(NamedTuple):
    """Seconds since the first one; bytes of memory that the process has (VmRSS), and of the journal."""

    at: float
    memory: int
    journal: int


class Window(NamedTuple):
    """Minutes from the start; bytes."""

    begin: float
    end: float
    mean: float
    least: int
    most: int
    journal: int

    @property
    def warm(self) -> bool:
        return self.begin >= WARM_UP_MINUTES


class Sampler:
    """Looks at kexport's process every few seconds."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._began = time.monotonic()

    def __call__(self, world: World) -> None:
        now = time.monotonic()
        if not self.samples:
            self._began = now
        elif now - self._began - self.samples[-1].at < SAMPLE_SECONDS:
            return
        journal = sum(path.stat().st_size for path in world.journal.glob("journal.db*"))
        self.samples.append(Sample(now - self._began, _memory(world.kexport.pid), journal))


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def outages(minutes: float, *, away_seconds: float) -> list[Fault]:
    """As long as the broker is away, it is back before the next time."""
    kind = Kind("broker", "killed", away_seconds, away_seconds)
    faults, at = [], away_seconds
    while at + away_seconds <= minutes * 60:
        faults.append(Fault(at, kind, away_seconds))
        at += 2 * away_seconds
    return faults


def windows(samples: Sequence[Sample]) -> list[Window]:
    """What was taken in each whole window of five minutes."""
    length = WINDOW_MINUTES * 60
    found = []
    for number in range(int((samples[-1].at + SAMPLE_SECONDS) / length)):
        those = [each for each in samples if number * length <= each.at < (number + 1) * length]
        memory = [each.memory for each in those]
        found.append(
            Window(
                number * WINDOW_MINUTES,
                (number + 1) * WINDOW_MINUTES,
                statistics.mean(memory),
                min(memory),
                max(memory),
                max(each.journal for each in those),
            )
        )
    return found


def furthest(found: Sequence[Window]) -> float:
    """How far the mean of a warm window is from their median, as a share of it; 0 before there are two."""
    means = [each.mean for each in found if each.warm]
    middle = statistics.median(means) if means else 0.0
    return max((abs(mean / middle - 1) for mean in means), default=0.0)


def soak(
    folder: Path,
    *,
    minutes: float,
    per_second: float,
    seed: int,
    away_seconds: float = AWAY_SECONDS,
    say: Callable[[str], None] = print,
) -> tuple[Run, list[Sample]]:
    """Carry out and judge. Raises when the run itself broke, which is no verdict on kexport."""
    faults = outages(minutes, away_seconds=away_seconds)
    sampler = Sampler()
    # A writer has one request under way: of so many, none need be faster than 13 ms for 300 a second.
    made = Run(
        seed, minutes, 30 / away_seconds, per_second, folder, _UNTROUBLED, faults, writers=4, look=sampler
    )
    carry_out(made, say=say)
    return made, sampler.samples


def report(made: Run, samples: Sequence[Sample]) -> str:
    """Markdown, with everything that is needed to repeat it."""
    found = windows(samples)
    rows = [
        [
            f"{each.begin:g} to {each.end:g}",
            *(f"{size / 1e6:.1f}" for size in (each.mean, each.least, each.most, each.journal)),
        ]
        for each in found
    ]
    return "\n".join(
        [
            versions(made),
            *_summary(made, found),
            "",
            *verdicts(made),
            "",
            *table(["minutes", "memory MB, mean", "least", "most", "journal MB, most"], rows),
        ]
    )


def _summary(made: Run, found: Sequence[Window]) -> list[str]:
    changes = max(verdict.changes for verdict in made.verdicts.values())
    away = sum(fault.seconds for fault in made.faults)
    caught_up = [each.caught_up_seconds for each in made.performed if each.caught_up_seconds is not None]
    return [
        (
            f"{made.chaos_seconds / 60:.0f} minutes, {changes:,} changes in etcd"
            f" ({changes / made.chaos_seconds:.0f}/s); Kafka was away {len(made.faults)} times,"
            f" {away / 60:.0f} minutes in all, and had caught up {max(caught_up, default=0):.1f} s after"
            " its return at the latest."
        ),
        (
            f"The mean of no window after the first {WARM_UP_MINUTES:g} minutes is further than"
            f" {furthest(found):.1%} from their median."
        ),
        (
            f"Repeat: `python -m tests.chaos.soak --minutes {made.minutes:g}"
            f" --per-second {made.per_second:g} --seed {made.seed}`."
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """0: nothing lost, invented or out of order, and memory flat; 1: otherwise."""
    wanted = _parser().parse_args(arguments)
    seed = random.randrange(1 << 30) if wanted.seed is None else wanted.seed
    folder = (wanted.keep or Path(tempfile.mkdtemp(prefix="kexport-soak-"))).absolute()
    made, samples = soak(
        folder,
        minutes=wanted.minutes,
        per_second=wanted.per_second,
        seed=seed,
        say=lambda text: print(text, flush=True),
    )
    print(f"\n{report(made, samples)}\n")
    for line in made.evidence:
        print(line)
    print(f"logs, configuration and what the sinks hold: {folder}")
    return 0 if made.flawless and furthest(windows(samples)) <= MOST_AWAY_FROM_MEDIAN else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--per-second", type=float, default=300.0, help="writes a second (300)")
    parser.add_argument("--seed", type=int, help="repeats the writes of another run")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to put everything; must be new")
    return parser


if __name__ == "__main__":
    sys.exit(main())
