"""Resources that come, go, come back and change their version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply
from tests.exporter import Exporter, Memory
from tests.following import watching
from tests.objects import (
    WIDGETS,
    config,
    define,
    deployment,
    eventually,
    seen,
    widget,
)


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr("kexport.streams.SOON_SECONDS", 0.02)
    async with FakeCluster(fresh_wait_seconds=0.05) as cluster:
        yield cluster


async def test_a_resource_that_is_installed_later_is_picked_up(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await eventually(lambda: exporter.engine.stats.waiting == [WIDGETS])
        define(fake, "v1")
        widget(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))
        assert exporter.engine.stats.waiting == []


async def test_a_pattern_follows_what_is_installed_later(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "*.example.com"), memory) as exporter:
        await eventually(lambda: bool(exporter.engine.stats.waiting))
        define(fake, "v1")
        widget(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))


async def test_scenario_15_a_removed_resource_and_16_the_same_one_made_again(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    definition = define(fake, "v1")
    widget(fake, "a")
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await watching(exporter)
        fake.delete(definition)
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
        gap = memory.events[-1].data["object"]
        assert (gap["reason"], gap["deleted"], gap["complete"]) == ("resource-removed", 0, True)
        assert seen(memory).count(("deleted", "a")) == 1
        define(fake, "v1")
        widget(fake, "a")
        await exporter.until(lambda _events: seen(memory).count(("added", "a")) == 2)
    assert len({event.key for event in memory.events if event.attributes.objname == "a"}) == 2


async def test_scenario_15_a_resource_that_was_removed_while_nobody_watched(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.streams.ABSENT_SECONDS", 0.2)
    memory = Memory()
    definition = define(fake, "v1")
    for name in "abc":
        widget(fake, name)
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
    fake.delete(definition)
    deleted_at = fake.revision
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
    gone = [event for event in memory.events if event.change == "deleted"]
    assert [(event.attributes.objname, event.attributes.origin) for event in gone] == [
        (name, "resync") for name in "abc"
    ]
    assert {event.attributes.kind for event in gone} == {"Widget"}
    gap = memory.events[-1].data["object"]
    assert (gap["deleted"], gap["complete"]) == (3, False)
    # The gap reaches behind the deletions, which were after all that had been heard of.
    assert int(gap["from"]) < deleted_at <= int(gap["to"])
    assert {event.attributes.resourceversion for event in gone} == {gap["to"]}


async def test_where_a_resource_went_while_nobody_watched_short_lives_may_be_missing(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    definition = define(fake, "v1")
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
    widget(fake, "short")
    fake.delete(definition)
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
    gap = memory.events[-1].data["object"]
    assert (gap["deleted"], gap["complete"], gap["scanned"]) == (0, False, False)


async def test_scenario_27_a_group_that_is_down_is_not_taken_for_one_that_is_gone(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    fake.serve("metrics.example.com/v1", "gauges", "Gauge", verbs=("list", "watch"), versioned=True)
    fake.create({"apiVersion": "metrics.example.com/v1", "kind": "Gauge", "metadata": {"name": "a"}})
    async with Exporter(config(fake, tmp_path, "gauges.metrics.example.com"), memory) as exporter:
        await exporter.synced()
        with fake.unavailable("metrics.example.com"):
            fake.hang_up()
            before = len(fake.requests)
            await eventually(lambda: sum("/apis" in path for _, path in fake.requests[before:]) > 5)
        fake.create({"apiVersion": "metrics.example.com/v1", "kind": "Gauge", "metadata": {"name": "b"}})
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
    assert not {"deleted", "gap"} & {event.change for event in memory.events}


async def test_a_discovery_that_fails_changes_nothing(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    define(fake, "v1")
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        fake.fail(500, times=3, path_contains="/apis")
        before = len(fake.requests)
        await eventually(lambda: sum(path == "/apis" for _, path in fake.requests[before:]) > 4)
        widget(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))
    assert not {"deleted", "gap"} & {event.change for event in memory.events}


async def test_a_discovery_that_answers_something_else_changes_nothing(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    deployment(fake, "a")
    async with Exporter(config(fake, tmp_path, "deployments.apps"), memory) as exporter:
        await exporter.synced()
        fake.fail(503, times=3, verb="watch")
        fake.script(Reply(body=b"{}"), times=5, verb="get", path_contains="/apis")
        fake.hang_up()
        before = len(fake.requests)
        await eventually(lambda: sum(path == "/apis" for _, path in fake.requests[before:]) > 6)
        deployment(fake, "b")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
    assert not {"deleted", "gap"} & {event.change for event in memory.events}


async def test_scenario_18_a_version_that_is_served_no_longer(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    define(fake, "v1")
    widget(fake, "a")
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        define(fake, "v2")
        await exporter.until(lambda events: any(event.change == "schema" for event in events))
        widget(fake, "b", "v2")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
    schema = next(event for event in memory.events if event.change == "schema")
    told = schema.data["object"]
    assert (told["from"], told["to"]) == ("example.com/v1", "example.com/v2")
    assert ("deleted", "a") not in seen(memory)
    assert (
        next(e for e in memory.events if e.attributes.objname == "b").attributes.apiversion
        == "example.com/v2"
    )
