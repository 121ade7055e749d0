"""Where history can't be had: budgets, memory, compaction, trouble on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kexport.testing.cluster import FakeCluster
from tests.story import Story, gap, recovered, without_brief_lives


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.mark.parametrize(("objects", "items"), [(3, 1000), (1000, 0), (1000, 60)])
async def test_a_stream_too_big_to_list_is_counted(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, objects: int, items: int
) -> None:
    monkeypatch.setattr("kexport.scan.LIST_OBJECTS", objects)
    monkeypatch.setattr("kexport.scan.LIST_ITEMS", items)
    story = Story(fake)
    for name in "abcd":
        story.put(name)
    known, since, start = story.index, fake.revision, len(story.all)
    for value in "123":
        for name in "abcd":
            story.put(name, value)
        fake.heartbeat(9)
    before = len(fake.requests)
    recovery, found = await recovered(fake, known, gap(since))
    assert found == story.all[start:]
    assert recovery.covered
    asked = [path for _, path in fake.requests[before:] if "Exact" in path and "fieldSelector" not in path]
    lists = [path for path in asked if "limit=" not in path]
    assert len(lists) * len(known) <= (items if objects > 3 else 0)
    assert (
        len(asked) - len(lists) - 1 == 27 - 1
    )  # the listing; each version that nothing explains, and not the last


@pytest.mark.parametrize(("items", "found_all"), [(1000, True), (0, False)])
async def test_a_brief_life_in_a_stream_too_big_to_list_is_found_by_one_list(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, items: int, *, found_all: bool
) -> None:
    monkeypatch.setattr("kexport.scan.LIST_OBJECTS", 3)
    monkeypatch.setattr("kexport.scan.LIST_ITEMS", items)
    story = Story(fake)
    for name in "abcd":
        story.put(name)
    known, since, start = story.index, fake.revision, len(story.all)
    story.put("brief", "1")
    story.put("a", "1")
    story.put("brief", "2")
    story.delete("brief")
    fake.heartbeat()
    recovery, found = await recovered(fake, known, gap(since))
    assert recovery.covered == found_all
    brief = [each for each in story.all[start:] if each.key == "default/brief"]
    assert [each for each in found if each.key == "default/brief"] == (brief if found_all else [])


@pytest.mark.parametrize(
    ("budget", "whole"),
    [
        ({"recover_max_requests": 0}, 0),
        ({"recover_max_seconds": 0}, 0),
        ({"recover_max_requests": 12, "recover_scan_revisions": 0}, None),
    ],
)
async def test_a_budget_that_is_used_up_leaves_the_rest_to_the_comparison(
    fake: FakeCluster, budget: dict[str, Any], whole: int | None
) -> None:
    story = Story(fake)
    for name in "abcdefghij":
        story.put(name)
    known, since, start = story.index, fake.revision, len(story.all)
    for value in "12":
        for name in "abcdefghij":
            story.put(name, value)
    before = len(fake.requests)
    recovery, found = await recovered(fake, known, gap(since), **budget)
    assert sum("Exact" in path and "fieldSel" in path for _, path in fake.requests[before:]) <= 12
    assert not recovery.covered
    if whole is None:
        assert 0 < len(recovery.whole) < 10
    else:
        assert len(recovery.whole) == whole
    # An object is told whole or not at all.
    assert found == [each for each in story.all[start:] if each.key in recovery.whole]


async def test_memory_is_bounded(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(fake)
    for name in "abcdefghij":
        story.put(name)
    known, since, start = story.index, fake.revision, len(story.all)
    for name in "abcdefghij":
        story.put(name, "x" * 10_000)
        story.put(name, "y" * 10_000)
    monkeypatch.setattr("kexport.walk.MOST_BYTES", 100_000)
    recovery, found = await recovered(fake, known, gap(since))
    assert not recovery.covered
    assert sum(len(each.value) for each in found) < 100_000
    assert found == [each for each in story.all[start:] if each.key in recovery.whole]


async def test_what_etcd_has_compacted_is_left_to_the_comparison(fake: FakeCluster) -> None:
    story = Story(fake)
    story.put("early")
    story.put("late")
    known, since = story.index, fake.revision
    story.put("early", "1")
    story.put("early", "2")
    fake.compact()
    story.put("late", "1")
    story.put("late", "2")
    story.put("early", "3")
    recovery, found = await recovered(fake, known, gap(since))
    assert [(each.key, each.value) for each in found] == [("default/late", "1"), ("default/late", "2")]
    assert recovery.whole == {"default/late"}
    assert not recovery.covered


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_that_passes_is_waited_out(
    fake: FakeCluster, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.history.FIRST_PAUSE_SECONDS", 0.01)
    story = Story(fake, seed=1)
    story.go_on(10)
    known, since, start = story.index, fake.revision, len(story.all)
    story.go_on(20)
    fake.fail(status, times=5, path_contains="fieldSelector")
    recovery, found = await recovered(fake, known, gap(since))
    assert found == story.all[start:]
    assert recovery.covered


@pytest.mark.parametrize("requests", [5, 30, 60])
async def test_a_compaction_in_the_middle_leaves_objects_whole_or_to_the_comparison(
    fake: FakeCluster, requests: int
) -> None:
    story = Story(fake, seed=4)
    story.go_on(20)
    known, since, start = story.index, fake.revision, len(story.all)
    story.go_on(60)
    until = len(fake.requests) + requests

    async def compact() -> None:
        while len(fake.requests) < until:
            await asyncio.sleep(0)
        fake.compact()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(compact())
        recovery, found = await recovered(fake, known, gap(since))
    truth = story.all[start:]
    assert found == [each for each in truth if each in found]
    wanted = {each for each in without_brief_lives(truth) if each.key in recovery.whole}
    assert wanted <= set(found)
    assert not recovery.covered
