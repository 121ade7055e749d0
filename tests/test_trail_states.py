"""The states that diffs are made of: kept over restarts, crashes and damage, and in little memory."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport.change import StreamKey
from kexport.places import State
from kexport.remembered import Remembered
from kexport.testing.cluster import FakeCluster
from tests.diffs import configured, end_of, judge, object_events
from tests.exporter import Exporter, Memory
from tests.objects import configmap, eventually
from tests.story import Story


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


async def test_diffs_that_are_switched_on_later_have_something_to_compare_with(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory, story = Memory(), Story(fake, seed=6)
    story.go_on(30)
    async with Exporter(configured(fake, tmp_path, diff=False), memory) as exporter:
        await end_of(exporter, story)
        await exporter.synced()
    memory.events.clear()
    story.go_on(10)
    async with Exporter(configured(fake, tmp_path), memory) as exporter:
        await end_of(exporter, story)
        before = story.alive
        for key in list(before):
            namespace, name = key.split("/")
            story.put(name, "changed", namespace=namespace)
        await end_of(exporter, story)
    modified = [event for event in memory.events if event.change == "modified"]
    assert modified
    assert all("patch" in event.data for event in modified)


async def test_states_are_kept_for_streams_with_diffs_alone(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    for name in "abc":
        configmap(fake, name)

    def stored() -> int:
        with sqlite3.connect(tmp_path / "state" / "journal.db") as db:
            return int(db.execute("SELECT count(*) FROM states").fetchone()[0])

    async with Exporter(configured(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        fake.delete("configmaps", "default", "a")
        await exporter.until(lambda events: events[-1].change == "deleted")
    assert stored() == 2
    async with Exporter(configured(fake, tmp_path, diff=False), memory) as exporter:
        await eventually(lambda: fake.watch_count > 0)
    assert stored() == 0


async def test_after_a_heartbeat_and_a_restart_nothing_is_missing(fake: FakeCluster, tmp_path: Path) -> None:
    """The index has the newest version, though what was told last is an older one."""
    memory = Memory()
    text = configured(fake, tmp_path, unchanged="drop", ignore=["data.beat"])
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    configmap(fake, "a", beat="0", color="red")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        fake.update(body | {"data": {"beat": "1", "color": "red"}})
        configmap(fake, "b")
        await exporter.until(lambda events: events[-1].subject == "default/b")
    fake.update(body | {"data": {"beat": "2", "color": "blue"}})
    fake.compact()
    fake.forget()
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
    changes = [(event.change, event.subject, event.attributes.origin) for event in object_events(memory)]
    assert changes[-1] == ("modified", "default/a", "recovered")
    assert judge(memory) == 1


async def test_little_memory_is_enough(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was let go of is read from the journal again; what is not durable yet is never let go of."""
    monkeypatch.setattr(Remembered.__init__, "__kwdefaults__", {"max_bytes": 1000})
    memory, story = Memory(), Story(fake, seed=8)
    async with Exporter(configured(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        for _ in range(20):
            story.go_on(20)
            await asyncio.sleep(0)
        await end_of(exporter, story)
    assert judge(memory) > 100


async def test_what_a_bug_kept_from_the_journal_is_told_when_it_comes_again(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, story = Memory(), Story(fake, seed=8)
    asked, get = itertools.count(), Remembered.get

    def failing(self: Remembered, stream: StreamKey, key: str) -> State | None:
        if next(asked) in {5, 20, 21}:
            raise KeyError(key)
        return get(self, stream, key)

    monkeypatch.setattr(Remembered, "get", failing)
    async with Exporter(configured(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        for _ in range(20):
            story.go_on(5)
            await asyncio.sleep(0)
        await end_of(exporter, story)
    assert next(asked) > 21
    told = [int(event.attributes.resourceversion) for event in memory.events if ".object." in event.type]
    assert told == [each.version for each in story.all]


async def test_a_damaged_state_costs_a_diff_and_nothing_else(fake: FakeCluster, tmp_path: Path) -> None:
    memory, text = Memory(), configured(fake, tmp_path)
    configmap(fake, "a", color="red")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    with sqlite3.connect(tmp_path / "state" / "journal.db") as db:
        db.execute("UPDATE states SET data = ?", (b"garbage",))
    db.close()
    async with Exporter(text, memory) as exporter:
        await eventually(lambda: fake.watch_count > 0)
        fake.update({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {}})
        await exporter.until(lambda events: events[-1].change == "modified")
    assert set(memory.events[-1].data) == {"object"}


async def broken_off(exporter: Exporter, story: Story, dice: random.Random, *, caught_up: bool) -> None:
    async with exporter:
        if caught_up:
            await end_of(exporter, story)
        for _ in range(dice.randrange(1, 6)):
            story.go_on(10)
            await asyncio.sleep(dice.random() / 20)
        raise ZeroDivisionError


async def test_a_killed_exporter_goes_on_with_the_states_of_its_journal(
    fake: FakeCluster, tmp_path: Path
) -> None:
    """The engine is dropped in the middle of its work again and again.

    Every second time it has first told what had happened; a slow machine might get no further than lists.
    """
    memory, story, dice = Memory(), Story(fake, seed=9), random.Random(9)
    seen: dict[str, bytes] = {}
    for turn in range(8):
        exporter = Exporter(configured(fake, tmp_path), memory)
        with pytest.raises(ZeroDivisionError):
            await broken_off(exporter, story, dice, caught_up=turn % 2 == 1)
    async with Exporter(configured(fake, tmp_path), memory) as exporter:
        await end_of(exporter, story)
    once = Memory()
    for event in memory.events:
        if event.id not in seen:
            once.events.append(event)
        assert seen.setdefault(event.id, event.line) == event.line
    assert judge(once) > 20
    assert json.loads(once.events[-1].line)
