"""promtool, which evaluates alert rules as Prometheus does, on series that a test gives it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.testbed.cache import require
from tests.testbed.recipes import PROMTOOL

INTERVAL_SECONDS = 30


class Promtool:
    """Rules as a PrometheusRule's `spec` has them."""

    def __init__(self, folder: Path, rules: Mapping[str, Any]) -> None:
        self._binary = require(PROMTOOL) / "promtool"
        self._folder = folder
        # Every JSON document is a YAML one.
        (folder / "rules.yaml").write_text(json.dumps(rules), encoding="utf-8")

    def check(self) -> str:
        return self._run("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")

    def test(
        self, series: Mapping[str, str], expressions: Sequence[tuple[int, str, dict[str, float]]]
    ) -> None:
        """Fails unless each expression has, at its minute, exactly these values, by the alert's name."""
        tests = [
            {
                "expr": expression,
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": value} for name, value in expected.items()
                ],
            }
            for minute, expression, expected in expressions
        ]
        whole = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": f"{INTERVAL_SECONDS}s",
            "tests": [
                {
                    "interval": f"{INTERVAL_SECONDS}s",
                    "input_series": [{"series": name, "values": values} for name, values in series.items()],
                    "promql_expr_test": tests,
                }
            ],
        }
        (self._folder / "tests.yaml").write_text(json.dumps(whole), encoding="utf-8")
        self._run("test", "rules", "tests.yaml")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._binary), *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"promtool {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout
