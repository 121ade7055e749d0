"""What was measured: rows of figures, several values each; medians, and what the machine was."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

UNITS = {
    "per_second": "changes/s",
    "cpu_us": "CPU µs/change",
    "peak_mb": "peak MB",
    "rss_mb": "resident MB",
    "journal_bytes": "journal B/change",
    "disk_bytes": "disk B/change",
    "commits": "commits/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "seconds": "s",
    "cpu_seconds": "CPU s",
    "cpu_percent": "CPU %",
    "ratio": "times kexport's CPU",
    "rate_ratio": "kexport's rate over its",
    "growth": "times the smallest",
}
LIBRARIES = ("kexport", "aiohttp", "msgspec", "zstandard", "kubernetes", "confluent-kafka", "obstore")


class Rows:
    """All figures so far: (scenario, row) -> figure's name -> a value for each run."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], dict[str, list[float]]] = {}
        self.notes: dict[tuple[str, str], str] = {}

    def add(self, scenario: str, row: str, **figures: float) -> None:
        """One run's figures of a row."""
        place = self.values.setdefault((scenario, row), {})
        for name, value in figures.items():
            assert name in UNITS, name
            place.setdefault(name, []).append(value)

    def note(self, scenario: str, row: str, text: str) -> None:
        """Why a row has no figures, or what one must know about them."""
        self.values.setdefault((scenario, row), {})
        self.notes[scenario, row] = text

    def median(self, scenario: str, row: str, figure: str) -> float | None:
        """None when it was not measured."""
        values = self.values.get((scenario, row), {}).get(figure)
        return statistics.median(values) if values else None

    def document(self) -> list[dict[str, Any]]:
        """For the file: every value of every run."""
        return [
            {
                "scenario": scenario,
                "row": row,
                "note": self.notes.get((scenario, row), ""),
                "figures": figures,
            }
            for (scenario, row), figures in self.values.items()
        ]

    @classmethod
    def of(cls, document: Iterable[Mapping[str, Any]]) -> Rows:
        rows = cls()
        for each in document:
            place = each["scenario"], each["row"]
            rows.values[place] = {name: list(values) for name, values in each["figures"].items()}
            if each["note"]:
                rows.notes[place] = each["note"]
        return rows


def environment() -> dict[str, Any]:
    """What the figures depend on; nothing that tells one machine from another of its kind."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "load_before": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def quantiles_ms(delays_ns: list[int]) -> dict[str, float]:
    """p50, p99 and the longest, in milliseconds."""
    ordered = sorted(delays_ns)
    last = len(ordered) - 1
    return {
        "p50_ms": ordered[last // 2] / 1e6,
        "p99_ms": ordered[round(last * 0.99)] / 1e6,
        "max_ms": ordered[last] / 1e6,
    }
