"""The helm command, with a home of its own: nothing of the machine's configuration, nothing left there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.testbed.cache import require
from tests.testbed.recipes import HELM

CHART = Path(__file__).parents[2] / "charts" / "kexport"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Helm:
    """`kubeconfig` names the cluster; without one only what needs none works (lint, template)."""

    def __init__(self, home: Path, *, kubeconfig: Path | None = None) -> None:
        self._binary = require(HELM) / "helm"
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "KUBECONFIG": str(kubeconfig or home / "no-kubeconfig"),
            **{f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
        }

    def try_(self, *arguments: object, max_wait_seconds: float = 240) -> Outcome:
        """Run it, whatever comes of it."""
        done = subprocess.run(
            [str(self._binary), *map(str, arguments)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max_wait_seconds,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def run(self, *arguments: object, max_wait_seconds: float = 240) -> str:
        """What it prints; a failure shows what it said."""
        done = self.try_(*arguments, max_wait_seconds=max_wait_seconds)
        assert done.code == 0, f"helm {' '.join(map(str, arguments))}: {done.out}{done.err}"
        return done.out
