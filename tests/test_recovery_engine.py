"""History that is read back, in the engine: journal, crashes, redaction, the gap event."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport.change import Known
from kexport.chapter import Chapter
from kexport.encoder import Encoder
from kexport.recovery import Recovery
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, told, toml
from tests.story import Story, index_after


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


def configured(fake: FakeCluster, tmp_path: Path, resource: str = "configmaps", **entry: Any) -> str:
    return toml(tmp_path, {"url": fake.url}, [{"resource": resource, **entry}])


async def after_gap(text: str, memory: Memory) -> tuple[list[Any], dict[str, Any]]:
    """Run until the gap is told; the events since the start, and what the gap event says."""
    seen = len(memory.events)
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
    (found,) = [e for e in memory.events[seen:] if e.change == "gap"]
    return memory.events[seen:], found.data["object"]


async def test_a_comparison_that_breaks_off_between_portions_repeats_and_loses_nothing(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.recovery.PORTION", 5)
    text, memory, story = configured(fake, tmp_path), Memory(), Story(fake, seed=2)
    story.go_on(20)
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    start = len(story.all)
    story.go_on(40)
    await fake.restart()
    emitted = Recovery.portions
    breaks = iter([2, 0, 3])

    def breaking(self: Recovery, encoder: Encoder) -> Any:
        left = next(breaks, 1000)
        for number, portion in enumerate(emitted(self, encoder)):
            if number == left:
                raise OSError("the power failed")
            yield portion

    monkeypatch.setattr(Recovery, "portions", breaking)
    events, said = await after_gap(text, memory)
    changes = [e for e in events if ".object." in e.type]
    assert [(e.change, e.subject, int(e.attributes.resourceversion)) for e in changes] == [
        (each.change, each.key, each.version) for each in story.all[start:]
    ]
    assert next(breaks, None) is None
    assert (said["recovered"], said["complete"]) == (40, True)


async def test_a_recovery_that_breaks_off_goes_on_behind_the_stretches_that_are_read(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who is killed every few seconds reads the same again until etcd has forgotten it."""
    monkeypatch.setattr("kexport.scan.STRETCH", 32)
    monkeypatch.setattr("kexport.scan.APART", 4)
    text, memory, story = configured(fake, tmp_path), Memory(), Story(fake, seed=3)
    story.go_on(20)
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    start = len(story.all)
    read: list[int | None] = []  # where stretches begin; None for one that broke off
    story.go_on(200)
    await fake.restart()
    run = Chapter.run

    async def breaking(self: Chapter, objects: Any) -> None:
        if len(read) in {1, 2, 4}:
            read.append(None)
            raise OSError("the power failed")
        await run(self, objects)
        read.append(self._begins)

    monkeypatch.setattr(Chapter, "run", breaking)
    events, said = await after_gap(text, memory)
    changes = [e for e in events if ".object." in e.type]
    assert [(e.change, e.subject, int(e.attributes.resourceversion)) for e in changes] == [
        (each.change, each.key, each.version) for each in story.all[start:]
    ]
    assert (said["recovered"], said["complete"]) == (200, True)
    begun = [each for each in read if each]
    assert len(begun) + 3 == len(read) > 7
    assert begun == sorted(set(begun)), "a stretch was read twice"


async def test_what_was_overlooked_before_a_crash_stays_overlooked(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the gap may be short enough for a scan; that says nothing about its beginning."""
    monkeypatch.setattr("kexport.recovery.PORTION", 1)
    text = configured(fake, tmp_path).replace("[cluster]", "[cluster]\nrecover_scan_revisions = 3")
    memory, story = Memory(), Story(fake)
    story.put("a")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    fake.heartbeat(2)
    story.put("brief")
    story.delete("brief")
    fake.heartbeat(7)
    story.put("a", "1")
    story.put("a", "2")
    await fake.restart()
    emitted = Recovery.portions
    breaks = iter([1])

    def breaking(self: Recovery, encoder: Encoder) -> Any:
        left = next(breaks, 1000)
        for number, portion in enumerate(emitted(self, encoder)):
            if number == left:
                monkeypatch.setattr(fake, "restart_revisions", 0)
                raise OSError("the power failed")
            yield portion

    monkeypatch.setattr(Recovery, "portions", breaking)
    events, said = await after_gap(text, memory)
    assert [each for each in told(events) if each[0] not in {"gap", "synced"}] == [
        ("modified", "default/a", "recovered"), ("modified", "default/a", "recovered"),
    ]  # fmt: skip
    assert (said["complete"], said["scanned"]) == (False, False)


async def test_the_budget_ends_and_the_gap_says_what_was_inferred(fake: FakeCluster, tmp_path: Path) -> None:
    text = configured(fake, tmp_path).replace("[cluster]", "[cluster]\nrecover_max_requests = 1")
    memory, story = Memory(), Story(fake)
    for name in "abc":
        story.put(name)
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    story.put("a", "1")
    story.put("a", "2")
    story.delete("b")
    story.put("d")
    await fake.restart()
    events, said = await after_gap(text, memory)
    assert sorted(told(events)[:3]) == [
        ("added", "default/d", "resync"), ("deleted", "default/b", "resync"),
        ("modified", "default/a", "resync"),
    ]  # fmt: skip
    assert {key: said[key] for key in ("added", "modified", "deleted", "recovered", "complete")} == {
        "added": 1, "modified": 1, "deleted": 1, "recovered": 0, "complete": False,
    }  # fmt: skip


async def test_recovered_secrets_are_redacted_like_watched_ones(fake: FakeCluster, tmp_path: Path) -> None:
    text, memory = configured(fake, tmp_path, "secrets"), Memory()
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    fake.create(body | {"data": {"password": "aHVudGVyMg=="}})
    fake.update(body | {"data": {"password": "aHVudGVyMw=="}})
    fake.delete("secrets", "default", "s")
    await fake.restart()
    events, said = await after_gap(text, memory)
    assert [e.change for e in events] == ["added", "modified", "deleted", "gap", "synced"]
    values = [e.data["object"]["data"]["password"] for e in events[:3]]
    assert all(re.fullmatch("hmac-sha256:[0-9a-f]{64}", value) for value in values)
    assert values[0] != values[1] == values[2]
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert b"aHVudGVyM" not in stored + b"".join(e.line for e in events)
    assert said["complete"] is True


async def test_what_left_inside_a_gap_is_forgotten_and_not_told_again_after_the_next(
    fake: FakeCluster, tmp_path: Path
) -> None:
    text, memory = configured(fake, tmp_path, label_selector="tier=web"), Memory()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"tier": "web"}}}
    fake.create(body)
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    fake.delete("configmaps", "default", "a")
    await fake.restart()
    events, said = await after_gap(text, memory)
    assert told(events)[:1] == [("left", "default/a", "recovered")]
    assert said["complete"] is True
    fake.compact()
    await fake.restart()
    events, said = await after_gap(text, memory)
    assert told(events)[0][0] == "gap"
    assert (said["deleted"], said["complete"]) == (0, True)


async def test_behind_a_compaction_in_the_gap_every_version_comes_back_and_before_it_is_inferred(
    fake: FakeCluster, tmp_path: Path
) -> None:
    text, memory, story = configured(fake, tmp_path), Memory(), Story(fake, seed=6)
    story.go_on(20)
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    since, seen, lost = fake.revision, len(memory.events), len(story.all)
    story.go_on(30)
    fake.compact()
    begins, index, start = fake.revision, story.index, len(story.all)
    story.go_on(40)
    await fake.restart()
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda events: sum(e.change == "gap" for e in events[seen:]) == 2)
    events = memory.events[seen:]
    first, second = (e.data["object"] for e in events if e.change == "gap")
    assert (first["from"], first["to"], first["complete"]) == (str(since), str(begins), False)
    assert (second["from"], second["complete"], second["recovered"]) == (str(begins), True, 40)
    changes = [e for e in events if ".object." in e.type]
    recovered = [e for e in changes if e.attributes.origin == "recovered"]
    assert [(e.change, e.subject, int(e.attributes.resourceversion)) for e in recovered] == [
        (each.change, each.key, each.version) for each in story.all[start:]
    ]
    inferred = changes[: len(changes) - len(recovered)]
    assert {e.attributes.origin for e in inferred} == {"resync"}
    after = index_after(story.all[:lost])
    for event in inferred:
        after.pop(event.subject, None)
        if event.change != "deleted":
            known = Known(event.attributes.partitionkey, event.attributes.resourceversion)
            after[event.subject] = known
    assert after == index


async def test_what_is_compacted_before_it_is_listed_costs_only_the_objects_that_it_touches(
    fake: FakeCluster, tmp_path: Path
) -> None:
    text, memory, story = configured(fake, tmp_path), Memory(), Story(fake)
    story.put("early")
    story.put("late")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    story.put("early", "1")
    story.put("early", "2")
    fake.compact()
    story.put("late", "1")
    story.put("late", "2")
    await fake.restart()
    fake.fail(410, times=1, verb="list", path_contains="limit=500")  # the listing where history begins
    events, said = await after_gap(text, memory)
    assert [each for each in told(events) if each[0] not in {"gap", "synced"}] == [
        ("modified", "default/late", "recovered"), ("modified", "default/late", "recovered"),
        ("modified", "default/early", "resync"),
    ]  # fmt: skip
    assert (said["modified"], said["recovered"], said["complete"]) == (1, 2, False)
