"""Exporters that attach diffs, and the verdict on what they told: each change follows from the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonpatch

from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, toml
from tests.story import Story


def configured(fake: FakeCluster, tmp_path: Path, resource: str = "configmaps", **entry: Any) -> str:
    return toml(tmp_path, {"url": fake.url}, [{"resource": resource, "diff": True, **entry}])


def object_events(memory: Memory) -> list[Any]:
    return [event for event in memory.events if ".object." in event.type]


def judge(memory: Memory) -> int:
    """Each event follows from the one before of its object; how many patches there were."""
    states: dict[str, Any] = {}
    patches = 0
    for event in object_events(memory):
        data, uid = event.data, event.key
        assert "kexport.io/managers" not in event.line.decode()
        if event.change == "added":
            assert set(data) == {"object"}
        elif event.attributes.origin == "resync" and event.change == "deleted":
            assert data == {"object": states[uid]}
        else:
            assert data["previous"] == states[uid], event
            assert jsonpatch.apply_patch(data["previous"], data["patch"]) == data["object"]
            patches += 1
        states[uid] = data["object"]
        if event.change == "deleted":
            del states[uid]
    return patches


async def end_of(exporter: Exporter, story: Story) -> None:
    """Wait until all that happened was told: what comes last is a new object."""
    story.put(f"end-{len(story.all)}")
    last = story.all[-1].key
    await exporter.until(lambda events: any(event.subject == last for event in events))
