"""Programs from the distribution's packages, installed when a test needs them and they are not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from tests.testbed.cache import BuildError, locked


def provide(tools: Iterable[str], *, what: str) -> None:
    """See to it that these commands, which are named as their packages, are there; raises BuildError."""
    tools = list(tools)
    if not _missing(tools):
        return
    # apt-get gives up when it is run twice at once.
    with locked():
        if missing := _missing(tools):  # nobody else has installed them meanwhile
            _install(missing, what=what)


def _missing(tools: Iterable[str]) -> list[str]:
    return [tool for tool in tools if shutil.which(tool) is None]


def _install(missing: Sequence[str], *, what: str) -> None:
    names = ", ".join(missing)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise BuildError(f"{what} needs {names}: install them")
    print(f"installing {names}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A fresh machine has no lists of packages, or lists that are too old.
    for arguments in (("update",), ("install", "--yes", "--no-install-recommends", *missing)):
        command = ["apt-get", "--quiet", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        if done.returncode:
            raise BuildError(f"{what} needs {names}, and apt-get fails: {done.stderr[-500:]}")
