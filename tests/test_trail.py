"""Diffs through the engine: each change with what was before, across restarts, gaps and reloads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport.errors import ConfigError
from kexport.testing.cluster import FakeCluster
from tests.diffs import configured, end_of, judge, object_events
from tests.exporter import Exporter, Memory
from tests.objects import configmap, eventually
from tests.story import Story


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


async def test_a_change_says_what_was_before_what_changed_and_who_did_it(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    configmap(fake, "a", color="red")
    async with Exporter(configured(fake, tmp_path), memory) as exporter:
        await exporter.synced()
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"color": "blue"}}
        fake.update(body)
        fake.delete("configmaps", "default", "a")
        await exporter.until(lambda events: events[-1].change == "deleted")
    added, modified, deleted = object_events(memory)
    assert set(added.data) == {"object"}
    assert modified.data["previous"] == added.data["object"]
    changed = {each["path"]: each["value"] for each in modified.data["patch"]}
    version = modified.attributes.resourceversion
    assert changed == {"/metadata/resourceVersion": version, "/data/color": "blue"}
    assert modified.attributes.manager
    assert modified.attributes.managertime.endswith("Z")
    assert deleted.data["previous"] == modified.data["object"]
    assert (deleted.attributes.manager, deleted.attributes.managertime) == ("", "")
    assert judge(memory) == 2


async def test_a_patch_alone_is_smaller(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    configmap(fake, "a", color="red")
    async with Exporter(configured(fake, tmp_path, diff="patch"), memory) as exporter:
        await exporter.synced()
        fake.update({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {}})
        await exporter.until(lambda events: events[-1].change == "modified")
    assert list(memory.events[-1].data) == ["object", "patch"]


async def test_patches_follow_each_other_over_restarts_and_gaps(fake: FakeCluster, tmp_path: Path) -> None:
    """Half of the gaps can be read back from history, half can only be compared."""
    memory, story, text = Memory(), Story(fake, seed=5), configured(fake, tmp_path)
    for turn in range(6):
        story.go_on(15)
        if turn:
            if turn % 2:
                await fake.restart()
            else:
                fake.compact()
                fake.forget()
        async with Exporter(text, memory) as exporter:
            await end_of(exporter, story)
            await exporter.until(lambda events: events[-1].change != "gap")
            story.go_on(25)
            await end_of(exporter, story)
    assert judge(memory) > 100
    assert {event.attributes.origin for event in object_events(memory)} == {
        "snapshot", "watch", "recovered", "resync",
    }  # fmt: skip


async def test_what_is_redacted_from_now_on_does_not_come_out_as_what_was_before(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    configmap(fake, "a", token="hunter2", color="red")
    async with Exporter(configured(fake, tmp_path), memory) as exporter:
        await exporter.synced()
    memory.events.clear()
    text = configured(fake, tmp_path) + '\n[[transforms]]\nresources = ["*"]\ndrop = ["data.token"]\n'
    async with Exporter(text, memory) as exporter:
        await eventually(lambda: fake.watch_count > 0)
        fake.update({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"token": "hunter2", "color": "blue"},
        })  # fmt: skip
        await exporter.until(lambda events: bool(events) and events[-1].change == "modified")
    assert b"hunter2" not in memory.events[-1].line
    assert memory.events[-1].data["previous"]["data"] == {"color": "red"}


async def test_silent_beginnings_and_unwanted_deletions_are_remembered_all_the_same(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    configmap(fake, "a", color="red")
    configmap(fake, "b")
    text = configured(fake, tmp_path, initial="silent", deletions="skip")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        fake.delete("configmaps", "default", "b")
        configmap(fake, "b")
        fake.update(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"color": "x"}}
        )
        await exporter.until(lambda events: events[-1].subject == "default/a")
    again, modified = object_events(memory)
    assert (again.change, again.subject) == ("added", "default/b")
    assert modified.data["previous"]["data"] == {"color": "red"}


async def test_heartbeats_are_counted_and_not_told_and_the_next_change_follows_the_last_told(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    text = configured(fake, tmp_path, unchanged="drop", ignore=["data.beat", "metadata.annotations['x/*']"])
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {}}
    configmap(fake, "a", beat="0", color="red")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
        for beat in range(1, 6):
            noted = {"metadata": {"name": "a", "annotations": {"x/seen": str(beat)}}}
            fake.update(body | noted | {"data": {"beat": str(beat), "color": "red"}})
        fake.update(body | {"data": {"beat": "6", "color": "blue"}})
        await exporter.until(lambda events: events[-1].change == "modified")
        (stats,) = exporter.engine.stats.streams.values()
        assert stats.unchanged == 5
    added, modified = object_events(memory)
    assert modified.data["previous"] == added.data["object"]
    assert judge(memory) == 1


async def test_an_object_made_again_under_its_name_has_no_past(fake: FakeCluster, tmp_path: Path) -> None:
    memory, text = Memory(), configured(fake, tmp_path)
    configmap(fake, "a", color="red")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    fake.delete("configmaps", "default", "a")
    configmap(fake, "a", color="blue")
    fake.compact()
    fake.forget()
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
    first, deleted, added = object_events(memory)
    assert (deleted.change, added.change) == ("deleted", "added")
    assert deleted.data == {"object": first.data["object"]}
    assert set(added.data) == {"object"}


async def test_secrets_are_compared_by_their_hashes(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    body: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "s"},
    }  # fmt: skip
    fake.create(body | {"data": {"p": "aHVudGVyMg==", "q": "c2FtZQ=="}})
    async with Exporter(configured(fake, tmp_path, "secrets"), memory) as exporter:
        await exporter.synced()
        fake.update(body | {"data": {"p": "aHVudGVyMw==", "q": "c2FtZQ=="}})
        await exporter.until(lambda events: events[-1].change == "modified")
    operations = memory.events[-1].data["patch"]
    assert {each["path"] for each in operations} == {"/metadata/resourceVersion", "/data/p"}
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert b"aHVudGVyM" not in stored + b"".join(event.line for event in memory.events)


async def test_a_reload_switches_diffs_on_and_off(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    wanted: dict[str, Any] = {"diff": False}
    configmap(fake, "a")
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    async with Exporter(lambda: configured(fake, tmp_path, **wanted), memory) as exporter:
        await exporter.synced()
        for number, diff in enumerate([True, False, "patch"]):
            wanted["diff"] = diff
            reloads = exporter.engine.stats.reloads
            exporter.engine.reload()
            await eventually(lambda before=reloads: exporter.engine.stats.reloads > before)  # type: ignore[misc]
            fake.update(body | {"data": {"n": str(number)}})
            await exporter.until(lambda events, at=number: len(events) == 3 + at)  # type: ignore[misc]
    found = [set(event.data) for event in object_events(memory)[1:]]
    assert found == [{"object", "previous", "patch"}, {"object"}, {"object", "patch"}]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"diff": False, "unchanged": "drop"}, r"resources\[0\].unchanged: .*set diff = true"),
        ({"ignore": ["data"]}, r'resources\[0\].ignore: .*unchanged = "drop"'),
        ({"unchanged": "drop", "ignore": ["data..x"]}, r"resources\[0\].ignore: field path"),
    ],
)
async def test_what_has_no_use_is_refused(
    fake: FakeCluster, tmp_path: Path, entry: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        async with Exporter(configured(fake, tmp_path, **entry), Memory()) as exporter:
            await exporter.synced()
