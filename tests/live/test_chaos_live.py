"""The chaos run in short, once as always and once as never before; `make chaos` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.report import report
from tests.chaos.run import run
from tests.testbed import NotBuiltError

FIXED_SEED = 7
MINUTES = 1.15
PER_MINUTE = 17
PER_SECOND = 40


@pytest.mark.parametrize("fresh", [False, True], ids=["fixed seed", "fresh seed"])
def test_nothing_is_lost_or_invented_whatever_happens(tmp_path: Path, fresh: bool) -> None:
    seed = random.SystemRandom().randrange(1 << 30) if fresh else FIXED_SEED
    print()
    try:
        made = run(tmp_path, seed=seed, minutes=MINUTES, per_minute=PER_MINUTE, per_second=PER_SECOND)
    except NotBuiltError as error:
        pytest.fail(str(error), pytrace=False)
    print(f"\n{report(made)}")
    assert made.flawless, "\n".join(made.evidence)
    assert len(made.performed) >= 12
    assert all(verdict.changes >= 1500 for verdict in made.verdicts.values())
