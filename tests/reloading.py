"""A configuration that changes under a running exporter: asked for, and taken or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, toml_of
from tests.objects import eventually

RETRY = {"min_seconds": 0.01, "max_seconds": 0.05}


class Setting:
    """A configuration file's content, which a test may change."""

    def __init__(self, fake: FakeCluster, directory: Path) -> None:
        self.document: dict[str, Any] = {
            "cluster": {"name": "test", "url": fake.url},
            "journal": {"path": str(directory / "state")},
            "http": {"listen": ""},
            "resources": [{"resource": "configmaps"}],
            "sinks": {"memory": {"type": "memory", "retry": RETRY}},
        }
        self.head = ""

    def __call__(self) -> str:
        return self.head + toml_of(self.document)


def secret(fake: FakeCluster, name: str) -> None:
    fake.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}})


def names(memory: Memory) -> list[str]:
    return [event.attributes.objname for event in memory.events if event.attributes.objname]


async def reloaded(exporter: Exporter) -> None:
    """Ask for it, and wait until the new configuration is in force."""
    before = exporter.engine.stats.reloads
    exporter.engine.reload()
    await eventually(lambda: exporter.engine.stats.reloads > before)


async def refused(exporter: Exporter) -> str:
    """Ask for it, and wait until it is refused; why."""
    before = exporter.engine.stats.reload_failures
    exporter.engine.reload()
    await eventually(lambda: exporter.engine.stats.reload_failures > before)
    return exporter.engine.stats.reload_error
