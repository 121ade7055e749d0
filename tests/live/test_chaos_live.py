"""The chaos run in short, once as always and once as never before, and the soak: both have long forms."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.report import report
from tests.chaos.run import run
from tests.chaos.soak import soak

FIXED_SEED = 7
MINUTES = 1.5
PER_MINUTE = 17
PER_SECOND = 40


@pytest.mark.parametrize("fresh", [False, True], ids=["fixed seed", "fresh seed"])
def test_nothing_is_lost_or_invented_whatever_happens(tmp_path: Path, fresh: bool) -> None:
    seed = random.SystemRandom().randrange(1 << 30) if fresh else FIXED_SEED
    print()
    made = run(tmp_path, seed=seed, minutes=MINUTES, per_minute=PER_MINUTE, per_second=PER_SECOND)
    print(f"\n{report(made)}")
    assert made.flawless, "\n".join(made.evidence)
    assert len(made.performed) >= 12
    assert all(verdict.changes >= 500 for verdict in made.verdicts.values())


def test_a_sink_that_is_away_half_of_the_time_gets_everything(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print()
    made, samples = soak(tmp_path, minutes=0.5, per_second=100, seed=seed, away_seconds=6)
    print(f"memory {[sample.memory // 1_000_000 for sample in samples]} MB")
    assert made.flawless, "\n".join(made.evidence)
    assert len(made.performed) == 2
    assert len(samples) >= 6
    assert all(sample.memory > 20_000_000 and sample.journal > 0 for sample in samples)
