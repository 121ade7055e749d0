"""The layers of ARCHITECTURE.md hold: every module has a place, and imports only what lies below."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_import_contract_holds() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_no_module_is_longer_than_300_lines() -> None:
    sources = [*ROOT.glob("kexport/**/*.py"), *ROOT.glob("plugins/*/kexport_*/*.py")]
    long = {str(path): count for path in sources if (count := len(path.read_text().splitlines())) > 300}
    assert not long
