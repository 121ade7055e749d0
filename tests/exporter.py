"""The real engine in the test's own loop, and configurations for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kexport.testing.exporting import PATIENCE_SECONDS, Exporter, Memory, MemoryConfig, told, toml_of

__all__ = ["PATIENCE_SECONDS", "Exporter", "Memory", "MemoryConfig", "told", "toml", "toml_of"]


def toml(
    directory: Path, cluster: dict[str, Any], resources: Sequence[dict[str, Any]], **journal: Any
) -> str:
    """A configuration with one memory sink; the journal is in `directory`."""
    document = {
        "cluster": {"name": "test", **cluster},
        "journal": {"path": str(directory / "state"), **journal},
        "http": {"listen": ""},
        "resources": list(resources),
        "sinks": {"memory": {"type": "memory", "retry": {"min_seconds": 0.01, "max_seconds": 0.05}}},
    }
    return toml_of(document)
