"""History that is read back: against everything that really happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kexport.change import Known, Stream
from kexport.encoder import Encoder
from kexport.places import Resync
from kexport.recovery import Recovery
from kexport.snapshot import Snapshot
from kexport.testing.cluster import FakeCluster
from tests.liar import Liar
from tests.story import (
    MAPS,
    SHAPER,
    STREAM,
    Story,
    gap,
    index_after,
    recovered,
    recovering,
    without_brief_lives,
)


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.mark.parametrize("seed", range(25))
async def test_random_histories_come_back_whole_and_in_order(fake: FakeCluster, seed: int) -> None:
    story = Story(fake, seed=seed)
    story.go_on(20)
    known, since, start = story.index, fake.revision, len(story.all)
    story.go_on(60)
    truth = story.all[start:]
    recovery, found = await recovered(fake, known, gap(since))
    assert found == truth
    assert recovery.covered
    recovery, found = await recovered(fake, known, gap(since), recover_scan_revisions=0)
    assert found == without_brief_lives(truth)
    assert not recovery.covered
    assert recovery.whole >= set(known) ^ set(story.index)
    recovery, found = await recovered(fake, known, gap(since), recover_scan_revisions=20)
    lives = {each.uid for each in found}
    assert found == [each for each in truth if each.uid in lives]
    assert set(found) >= set(without_brief_lives(truth))
    assert found == truth or not recovery.covered


@pytest.mark.parametrize("seed", range(10))
async def test_a_recovery_that_broke_off_goes_on_behind_what_was_told(fake: FakeCluster, seed: int) -> None:
    story = Story(fake, seed=seed)
    story.go_on(15)
    since, start = fake.revision, len(story.all)
    story.go_on(40)
    told_already = start + story.random.randrange(1, 40)
    known = index_after(story.all[:told_already])
    resync = gap(since, upto=str(story.all[told_already - 1].version), recovered=told_already - start)
    recovery, found = await recovered(fake, known, resync)
    assert found == story.all[told_already:]
    assert recovery.covered
    _, found = await recovered(fake, known, resync, recover_scan_revisions=0)
    assert found == without_brief_lives(story.all[told_already:])


async def test_objects_that_fell_back_before_are_walked(
    fake: FakeCluster,
) -> None:
    """The first try recovered `b` only: the index is a mixture of two times."""
    story = Story(fake)
    story.put("a", "0")
    story.put("b", "0")
    known, since = story.index, fake.revision
    story.put("a", "1")
    story.put("b", "1")
    upto = fake.revision
    story.put("a", "2")
    story.put("b", "2")
    known["default/b"] = Known(known["default/b"].uid, str(upto))
    _, found = await recovered(fake, known, gap(since, upto=str(upto)))
    assert [(each.key, each.value) for each in found] == [
        ("default/a", "1"), ("default/a", "2"), ("default/b", "2"),
    ]  # fmt: skip


async def test_a_new_object_that_fell_back_before_has_its_whole_life_told(fake: FakeCluster) -> None:
    story = Story(fake)
    story.put("b", "0")
    known, since = story.index, fake.revision
    story.put("new", "0")
    story.put("b", "1")
    upto = fake.revision
    story.put("new", "1")
    known["default/b"] = Known(known["default/b"].uid, str(upto))
    _, found = await recovered(fake, known, gap(since, upto=str(upto)))
    assert [(each.change, each.value) for each in found] == [("added", "0"), ("modified", "1")]


async def test_portions_lead_the_index_to_the_listing(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.recovery.PORTION", 7)
    story = Story(fake, seed=3)
    story.go_on(20)
    index, since, start = dict(story.index), fake.revision, len(story.all)
    story.go_on(50)
    resync, count = gap(since), start
    async with recovering(fake, index, gap(since)) as (recovery, _):
        for portion in recovery.portions(Encoder(STREAM, "c")):
            resync = portion.added_to(resync)
            count += len(portion.events)
            index = {key: known for key, known in (index | portion.objects).items() if known}
            assert index == index_after(story.all[:count])
            assert (resync.upto, resync.recovered) == (str(story.all[count - 1].version), count - start)
    assert count == len(story.all)


async def test_a_stream_of_patterns_and_one_of_a_namespace_keep_to_theirs(fake: FakeCluster) -> None:
    for stream in (
        Stream(resource=MAPS, only_namespaces=("kube-*",)),
        Stream(resource=MAPS, namespace="kube-system"),
    ):
        async with FakeCluster() as other:
            story = Story(other, seed=5)
            story.go_on(20)
            known = {key: known for key, known in story.index.items() if key.startswith("kube-system/")}
            since, start = other.revision, len(story.all)
            story.go_on(40)
            recovery, found = await recovered(other, known, gap(since), stream=stream)
            assert found == [each for each in story.all[start:] if each.key.startswith("kube-system/")]
            assert recovery.covered


@pytest.mark.parametrize(
    ("stream", "resync", "version", "possible"),
    [
        (STREAM, gap(5), "9", True),
        (STREAM, gap(5, upto="7"), "9", True),
        (STREAM, gap(5, upto="9"), "9", False),
        (STREAM, gap(9), "5", False),  # rolled back: nothing to be found between
        (STREAM, gap(5, deleted=1), "9", False),  # what was inferred must not be followed by older things
        (STREAM, Resync(reason="initial"), "9", False),
        (STREAM, Resync(reason="expired", since="opaque"), "9", False),
        (STREAM, gap(5), "opaque", False),
        (Stream(resource=MAPS, label_selector="a=b"), gap(5), "9", True),
    ],
)
def test_when_there_is_a_history(stream: Stream, resync: Resync, version: str, *, possible: bool) -> None:
    with Snapshot(stream, SHAPER, {}) as snapshot:
        snapshot.version = version
        liar: Any = Liar({})
        with Recovery(snapshot, {}, resync, client=liar, shaper=SHAPER) as recovery:
            assert recovery.possible == possible
