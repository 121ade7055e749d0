"""A gap that is read in many stretches: against what really happened, and what the index says afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kexport.change import Known
from kexport.diff import portions
from kexport.encoder import Encoder
from kexport.history import History
from kexport.testing.cluster import FakeCluster
from tests.story import STREAM, Happened, Story, a_client, gap, recovered, recovering, said


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kexport.scan.STRETCH", 32)
    monkeypatch.setattr("kexport.scan.APART", 4)


@pytest.mark.parametrize("seed", range(12))
async def test_many_stretches_tell_one_history(fake: FakeCluster, seed: int) -> None:
    story = Story(fake, seed=seed)
    story.go_on(20)
    known, since, start = story.index, fake.revision, len(story.all)
    story.go_on(150)
    truth = story.all[start:]
    recovery, found = await recovered(fake, known, gap(since))
    assert found == truth
    assert recovery.covered
    told = start + random.Random(seed).randrange(1, 150)
    resync = gap(since, upto=str(story.all[told - 1].version), recovered=told - start)
    recovery, found = await recovered(fake, index(known, story.all[start:told]), resync)
    assert found == story.all[told:]
    assert recovery.covered


@pytest.mark.parametrize("requests", [0, 1, 20, 60, 100, 140, 180])
@pytest.mark.parametrize("what", ["budget", "compaction"])
async def test_where_the_reading_ends_the_comparison_goes_on(
    fake: FakeCluster, what: str, requests: int
) -> None:
    """Whatever is told of an object, nothing is left out in it; and the rest is told once, as inferred."""
    story = Story(fake, seed=requests)
    story.go_on(20)
    known, since, start = story.index, fake.revision, len(story.all)
    story.go_on(150)
    config: dict[str, Any] = {"recover_max_requests": requests} if what == "budget" else {}
    task = (
        asyncio.create_task(_compact(fake, len(fake.requests) + requests)) if what == "compaction" else None
    )
    async with recovering(fake, known, gap(since), **config) as (recovery, snapshot):
        assert not recovery.covered
        found = list(said(recovery))
        snapshot.rebase(recovery.told)
        left: dict[str, Known | None] = {}
        encoder = Encoder(STREAM, "c")
        for portion in portions(snapshot, encoder, first=False):
            assert not set(left) & set(portion.objects)
            left |= portion.objects
    if task:
        await task
    truth = story.all[start:]
    assert found == [each for each in truth if each in found]
    for key in {each.key for each in truth}:
        mine = [each for each in truth if each.key == key]
        assert [each for each in found if each.key == key] == mine[: sum(e.key == key for e in found)]
    after = index(known, found)
    assert all(after.get(key) != each for key, each in left.items())
    assert {key: each for key, each in (after | left).items() if each} == story.index


async def _compact(fake: FakeCluster, when: int) -> None:
    while len(fake.requests) < when:
        await asyncio.sleep(0)
    fake.compact()


async def test_with_more_requests_more_is_told(fake: FakeCluster) -> None:
    story = Story(fake, seed=5)
    story.go_on(20)
    known, since = story.index, fake.revision
    story.go_on(150)
    told = [
        len((await recovered(fake, known, gap(since), recover_max_requests=most))[1])
        for most in (40, 120, 1000)
    ]
    assert 0 < told[0] < told[1] < told[2] == 150


async def test_a_version_costs_little_more_than_a_request(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.scan.STRETCH", 2000)
    monkeypatch.setattr("kexport.scan.APART", 20)
    story = Story(fake, seed=8)
    for number in range(60):
        story.put(f"o{number}")
    known, since, start = story.index, fake.revision, len(story.all)
    for number in range(900):
        name = f"o{story.random.randrange(60)}"
        if f"default/{name}" in story.alive and story.random.random() < 0.15:
            story.delete(name)
        else:
            story.put(name, str(number))
    recovery, found = await recovered(fake, known, gap(since))
    assert found == story.all[start:]
    assert recovery.covered
    assert recovery.requests < 1.5 * len(found)


@pytest.mark.parametrize("lost", [0, 1, 7, 50])
async def test_the_oldest_version_of_a_history_is_found(fake: FakeCluster, lost: int) -> None:
    since = fake.revision
    fake.heartbeat(lost)
    fake.compact()
    begins = fake.revision if lost else since
    fake.heartbeat(100)
    async with a_client(fake) as client:
        history = History(STREAM, client)
        assert await history.oldest(since, fake.revision) == begins
        assert history.requests <= 2 * 9


async def test_a_counter_that_was_moved_on_costs_few_requests(fake: FakeCluster) -> None:
    """A gap of a thousand million versions, in which nothing is written but what came after."""
    story = Story(fake)
    story.put("a", "0")
    story.put("b", "0")
    known, since, start = story.index, fake.revision, len(story.all)
    fake.heartbeat(1_000_000_000)
    story.put("a", "1")
    story.delete("b")
    recovery, found = await recovered(fake, known, gap(since))
    assert found == story.all[start:]
    assert not recovery.covered
    assert recovery.requests < 5000


def index(known: dict[str, Known], happened: list[Happened]) -> dict[str, Known]:
    """The index after these changes."""
    after = dict(known)
    for each in happened:
        after.pop(each.key, None)
        if each.change != "deleted":
            after[each.key] = Known(each.uid, str(each.version))
    return after
