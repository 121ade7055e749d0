"""Deletions that share a version: a group that is cut, left out, or repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec
import pytest

from kexport.change import RawObject
from kexport.event import Event
from kexport.shape import Shaper
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply
from tests.exporter import Exporter, Memory, toml
from tests.objects import (
    config,
    occurrence,
    seen,
)


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr("kexport.streams.SOON_SECONDS", 0.02)
    async with FakeCluster(fresh_wait_seconds=0.05) as cluster:
        yield cluster


async def watched(fake: FakeCluster, since: str, count: int) -> list[bytes]:
    """The lines that a watch of events gives after this version."""
    path = f"{fake.url}/api/v1/events?watch=1&resourceVersion={since}"
    async with aiohttp.ClientSession() as session, session.get(path) as response:
        return [await response.content.readline() for _ in range(count)]


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("restarted", [True, False])
async def test_scenario_34_a_group_of_deletions_that_is_cut_loses_none(
    fake: FakeCluster, tmp_path: Path, cut: int, restarted: bool
) -> None:
    memory = Memory()
    text = config(fake, tmp_path, "events")
    found = [occurrence(fake, f"e{number}") for number in range(5)]
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        since = exporter.engine.stats.streams["events/*"].version
    fake.expire(found)
    lines = await watched(fake, since, 5)
    assert len({msgspec.json.decode(line)["object"]["metadata"]["resourceVersion"] for line in lines}) == 1

    def gone(events: list[Event]) -> list[str]:
        return sorted(event.attributes.objname for event in events if event.change == "deleted")

    # The rest of the group stays away for as long as the test looks at its first part.
    then: Literal["hang", "cut"] = "hang" if restarted else "cut"
    fake.script(Reply(body=b"".join(lines[:cut]), then=then), path_contains="/api/v1/events?", verb="watch")
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda events: len(gone(events)) == (cut if restarted else 5))
    if restarted:
        async with Exporter(text, memory) as exporter:
            await exporter.until(lambda events: len(gone(events)) >= 5)
    assert gone(memory.events) == [f"e{number}" for number in range(5)]
    occurrence(fake, "later")
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda _events: ("added", "later") in seen(memory))
    assert len(gone(memory.events)) == 5


async def test_scenario_34_deletions_can_be_left_out(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    text = toml(tmp_path, {"url": fake.url}, [{"resource": "events", "deletions": "skip"}])
    found = [occurrence(fake, "a"), occurrence(fake, "b")]
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        fake.expire(found[:1])
        occurrence(fake, "c")
        await exporter.until(lambda _events: ("added", "c") in seen(memory))
    fake.expire(found[1:])
    fake.heartbeat(10)
    fake.compact()
    occurrence(fake, "d")
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda _events: ("added", "d") in seen(memory))
    assert {event.change for event in memory.events} == {"added", "synced", "gap"}


async def test_a_change_that_a_bug_keeps_from_the_journal_is_told_when_it_comes_again(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    text = config(fake, tmp_path, "events")
    found = [occurrence(fake, f"e{number}") for number in range(5)]
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        since = exporter.engine.stats.streams["events/*"].version
    fake.expire(found)
    lines = await watched(fake, since, 5)
    shape = Shaper.shape
    failed: list[RawObject] = []

    def buggy(self: Shaper, members: RawObject) -> bytes:
        if b'"e2"' in bytes(members["metadata"]) and not failed:
            failed.append(members)
            raise ZeroDivisionError("a bug")
        return shape(self, members)

    monkeypatch.setattr(Shaper, "shape", buggy)
    fake.script(Reply(body=b"".join(lines)), path_contains="/api/v1/events?", verb="watch")
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda _events: ("deleted", "e4") in seen(memory))
    assert failed
    assert sorted(name for change, name in seen(memory) if change == "deleted") == [
        "e0",
        "e1",
        "e2",
        "e3",
        "e4",
    ]
