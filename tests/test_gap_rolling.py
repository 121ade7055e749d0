"""A gap on a server whose watch cache is full: with each change it forgets one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from typing_extensions import override

from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Fault
from tests.exporter import Exporter, Memory, toml
from tests.story import Happened, Story


@dataclass
class _Busy(Fault):
    """Others write all the time: one change for so many requests, however fast the machine is."""

    story: Story
    requests: int
    count: int = 0

    @override
    async def play(self, request: web.BaseRequest) -> web.StreamResponse | None:
        self.count += 1
        if self.count % self.requests == 0:
            self.story.go_on(1)
        return None


async def test_scenario_2_a_watch_cache_that_forgets_faster_than_one_can_list_is_caught_up_with(
    tmp_path: Path,
) -> None:
    memory = Memory()
    async with FakeCluster(ring_capacity=200) as fake:
        story = Story(fake, seed=5)
        text = toml(tmp_path, {"url": fake.url}, [{"resource": "configmaps"}])
        async with Exporter(text, memory) as exporter:
            await exporter.synced()
        story.go_on(400)
        fake.script(_Busy(story, requests=8), times=1_000_000, path_contains="/configmaps")
        async with Exporter(text, memory) as exporter:
            await exporter.until(lambda events: _watched(events) or len(_gaps(events)) > 5)
            story.put("last")
            await exporter.until(lambda events: any(e.subject == "default/last" for e in events))
    changes = [e for e in memory.events if ".object." in e.type]
    assert [
        Happened(
            e.change, e.subject, e.attributes.partitionkey, int(e.attributes.resourceversion),
            e.data["object"]["data"]["v"],
        )
        for e in changes
    ] == story.all  # fmt: skip
    assert changes[-1].attributes.origin == "watch"
    gaps = _gaps(memory.events)
    assert len(gaps) <= 3
    assert all(gap["complete"] for gap in gaps)


def _watched(events: list[Any]) -> bool:
    return any(event.attributes.origin == "watch" for event in events)


def _gaps(events: list[Any]) -> list[dict[str, Any]]:
    return [event.data["object"] for event in events if event.change == "gap"]
