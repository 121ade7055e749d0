"""`kexport snapshot`: everything that exists is told again, and no change is lost or out of order by it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport import comparing
from kexport.change import StreamKey
from kexport.errors import ConfigError, KexportError
from kexport.event import Event
from kexport.remote import NotRunningError, ask
from kexport.request import SOCKET, Snapshot, Status
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, told, toml
from tests.objects import configmap, eventually, occurrence
from tests.test_crash_points import Rig, rig

MAPS = [{"resource": "configmaps"}]


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


def started(fake: FakeCluster, tmp_path: Path, resources: Any = MAPS, **cluster: Any) -> Exporter:
    return Exporter(toml(tmp_path, {"url": fake.url, **cluster}, resources), Memory())


async def requested(tmp_path: Path, resource: str = "configmaps", **more: Any) -> dict[str, Any]:
    request = Snapshot(resource=resource, **more)
    return await asyncio.to_thread(ask, tmp_path / "state", request, wait_seconds=30)


def update(fake: FakeCluster, name: str, value: str) -> None:
    fake.patch("configmaps", "default", name, {"data": {"a": value}})


def closing(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = event.data["object"]
    return found


async def test_every_object_is_told_again_and_the_watch_goes_on(fake: FakeCluster, tmp_path: Path) -> None:
    for name in "abc":
        configmap(fake, name)
    async with started(fake, tmp_path) as exporter:
        await exporter.synced()
        update(fake, "a", "2")
        fake.delete("configmaps", "default", "b")
        await exporter.until(lambda events: len(events) == 6)
        seen = len(exporter.events)
        assert await requested(tmp_path) == {"streams": ["configmaps/*"], "objects": 2}
        await exporter.until(lambda events: events[-1].change == "synced" and len(events) > seen)
        update(fake, "c", "3")
        await exporter.until(lambda events: len(events) == seen + 4)
    again = exporter.events[seen:]
    assert sorted(told(again[:2])) == [
        ("added", "default/a", "snapshot"), ("added", "default/c", "snapshot"),
    ]  # fmt: skip
    assert told(again[2:]) == [
        ("synced", "configmaps/*", "snapshot"), ("modified", "default/c", "watch"),
    ]  # fmt: skip
    assert (closing(again[2])["objects"], closing(again[2])["reason"]) == (2, "requested")
    assert {event.id for event in again[:2]} <= {event.id for event in exporter.events[:seen]}
    assert all(event.data["object"]["data"] is not None for event in again[:2])
    tally = exporter.engine._journal.tally
    assert tally.snapshots[StreamKey("configmaps/*"), "requested"] == 1
    assert not tally.gaps


async def test_changes_that_go_on_meanwhile_are_neither_lost_nor_out_of_order(
    fake: FakeCluster, tmp_path: Path
) -> None:
    versions: dict[str, list[str]] = {}
    for number in range(40):
        made = configmap(fake, f"m{number}")["metadata"]
        versions[made["name"]] = [made["resourceVersion"]]
    async with started(fake, tmp_path) as exporter:
        await exporter.synced()
        stop = asyncio.Event()

        async def change() -> None:
            chance = random.Random(3)
            while not stop.is_set():
                name = chance.choice(list(versions))
                now = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
                made = fake.update({**now, "data": {"n": str(fake.revision)}})["metadata"]
                versions[name].append(made["resourceVersion"])
                await asyncio.sleep(0.001)

        changing = asyncio.create_task(change())
        for _ in range(5):
            assert (await requested(tmp_path))["objects"] == 40
        stop.set()
        await changing
        configmap(fake, "last")
        await exporter.until(lambda events: events[-1].subject == "default/last")
    assert not [event for event in exporter.events if event.change == "gap"]
    for name, made in versions.items():
        mine = [event for event in exporter.events if event.attributes.objname == name]
        by_watch = [event.attributes.resourceversion for event in mine if event.change == "modified"]
        assert by_watch == made[1:], "each version once, in order"
        order = [int(event.attributes.resourceversion) for event in mine]
        assert order == sorted(order), "a snapshot tells nothing older than what was told"
        assert sum(event.attributes.origin == "snapshot" for event in mine) == 6


async def test_who_asks_at_the_same_time_is_answered_as_well(fake: FakeCluster, tmp_path: Path) -> None:
    configmap(fake, "a")
    async with started(fake, tmp_path) as exporter:
        await exporter.synced()
        answers = await asyncio.gather(*(requested(tmp_path) for _ in range(3)))
        assert [answer["objects"] for answer in answers] == [1] * 3
        assert exporter.engine.stats.streams["configmaps/*"].state in {"watching", "listing"}
        configmap(fake, "b")
        await exporter.until(lambda events: events[-1].subject == "default/b")


async def test_without_waiting_it_is_told_all_the_same(fake: FakeCluster, tmp_path: Path) -> None:
    configmap(fake, "a")
    async with started(fake, tmp_path) as exporter:
        await exporter.synced()
        answer = await requested(tmp_path, wait=False)
        assert answer == {"streams": ["configmaps/*"], "objects": None}
        await exporter.synced(2)


async def test_a_silent_first_listing_does_not_silence_what_is_asked_for(
    fake: FakeCluster, tmp_path: Path
) -> None:
    configmap(fake, "a")
    async with started(fake, tmp_path, [{"resource": "configmaps", "initial": "silent"}]) as exporter:
        await exporter.synced()
        await requested(tmp_path)
        assert told(exporter.events)[-2:] == [
            ("added", "default/a", "snapshot"), ("synced", "configmaps/*", "snapshot"),
        ]  # fmt: skip


async def test_with_diffs_it_is_told_whole_and_the_next_change_follows_on_it(
    fake: FakeCluster, tmp_path: Path
) -> None:
    configmap(fake, "a")
    async with started(fake, tmp_path, [{"resource": "configmaps", "diff": True}]) as exporter:
        await exporter.synced()
        update(fake, "a", "1")
        await exporter.until(lambda events: events[-1].change == "modified")
        await requested(tmp_path)
        update(fake, "a", "2")
        await exporter.until(lambda events: events[-1].change == "modified" and len(events) == 6)
    again, _, changed = exporter.events[-3:]
    assert (again.change, set(again.data)) == ("added", {"object"})
    assert changed.data["previous"] == again.data["object"]
    assert {"op": "replace", "path": "/data/a", "value": "2"} in changed.data["patch"]


async def test_the_streams_of_a_namespace_alone(fake: FakeCluster, tmp_path: Path) -> None:
    for name in ("shop", "bank"):
        fake.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    resources = [{"resource": "configmaps", "namespaces": ["shop", "bank"]}, {"resource": "pods"}]
    async with started(fake, tmp_path, resources) as exporter:
        await exporter.synced(3)
        assert (await requested(tmp_path))["streams"] == ["configmaps/shop", "configmaps/bank"]
        assert (await requested(tmp_path, "cm", namespace="bank"))["streams"] == ["configmaps/bank"]
        with pytest.raises(ConfigError, match=r"in shop alone; without -n these are told again: pods/\*"):
            await requested(tmp_path, "pods", namespace="shop")
        with pytest.raises(ConfigError, match="no stream follows secrets"):
            await requested(tmp_path, "secrets")
        with pytest.raises(ConfigError, match="unknown resource 'podz', did you mean 'pods'"):
            await requested(tmp_path, "podz")


async def test_where_the_server_cannot_list_that_version_any_more_a_gap_says_so(tmp_path: Path) -> None:
    async with FakeCluster(watch_list=False) as fake:
        for name in ("same", "changed", "gone"):
            configmap(fake, name)
        async with started(fake, tmp_path) as exporter:
            await exporter.synced()
            await eventually(lambda: exporter.engine.stats.streams["configmaps/*"].state == "watching")
            seen = len(exporter.events)
            with fake.stall("watch="):  # nothing is heard of these
                update(fake, "changed", "2")
                fake.delete("configmaps", "default", "gone")
                fake.compact()
                assert (await requested(tmp_path))["objects"] == 2
            await exporter.until(lambda events: events[-1].change == "synced" and len(events) > seen)
    again = [each for each in told(exporter.events[seen:]) if each[0] != "synced"]
    assert again[0] == ("deleted", "default/gone", "resync")
    assert sorted(again[1:3]) == [
        ("added", "default/changed", "snapshot"), ("added", "default/same", "snapshot"),
    ]  # fmt: skip
    gap = next(closing(event) for event in exporter.events[seen:] if event.change == "gap")
    assert (gap["reason"], gap["complete"]) == ("requested", False)
    assert (gap["added"], gap["modified"], gap["deleted"]) == (0, 1, 1)


async def test_a_group_of_deletions_at_one_version_is_let_through_first(
    fake: FakeCluster, tmp_path: Path
) -> None:
    """The index is ahead of the position there: a listing at the position would tell the dead again."""
    gone = [occurrence(fake, f"e{number}") for number in range(5)]
    occurrence(fake, "stays")
    async with started(fake, tmp_path, [{"resource": "events"}]) as exporter:
        await exporter.synced()
        fake.expire(gone)
        await exporter.until(lambda events: sum(each.change == "deleted" for each in events) == 5)
        assert exporter.engine._journal.positions[StreamKey("events/*")].held
        asking = asyncio.create_task(requested(tmp_path, "events"))
        await eventually(lambda: "events/*" in wanted(exporter))
        occurrence(fake, "next")  # nothing else says that the group is over: these watches have no bookmarks
        assert (await asking)["objects"] == 2
        await exporter.synced(2)
        assert sum(each.change == "deleted" for each in exporter.events) == 5
        assert sorted(told(exporter.events)[-3:-1]) == [
            ("added", "default/next", "snapshot"), ("added", "default/stays", "snapshot"),
        ]  # fmt: skip


def wanted(exporter: Exporter) -> list[str]:
    """The streams that a snapshot is asked for."""
    streams = exporter.engine._streams
    assert streams
    return [key for key, each in streams._running.items() if each.informer._asked.wanted]


async def test_before_the_cluster_answers_and_after_the_stream_is_gone_it_is_said(
    fake: FakeCluster, tmp_path: Path
) -> None:
    async with Exporter(toml(tmp_path, {"url": "http://127.0.0.1:1"}, MAPS), Memory()):
        await eventually((tmp_path / "state" / SOCKET).exists)
        with pytest.raises(KexportError, match="no stream is followed now"):
            await requested(tmp_path)
    with pytest.raises(NotRunningError):
        await requested(tmp_path)


async def test_who_waits_is_told_when_the_stream_ends(fake: FakeCluster, tmp_path: Path) -> None:
    text = [toml(tmp_path, {"url": fake.url}, [*MAPS, {"resource": "pods"}])]
    async with Exporter(lambda: text[0], Memory()) as exporter:
        await exporter.synced(2)
        fake.deny("list", "configmaps")
        asking = asyncio.create_task(requested(tmp_path))

        def forbidden() -> bool:
            return exporter.engine.stats.streams["configmaps/*"].state == "forbidden"

        await eventually(forbidden)
        text[0] = toml(tmp_path, {"url": fake.url}, [{"resource": "pods"}])
        exporter.engine.reload()
        with pytest.raises(KexportError, match="the stream was ended before all was told"):
            await asking
        assert (await asyncio.to_thread(ask, tmp_path / "state", Status()))["status"]["streams"]


# -- a crash in the middle --------------------------------------------------------------------------------


def portion_line() -> int:
    """Where a portion is in the journal and the next is to come."""
    lines = Path(comparing.__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if "await asyncio.sleep(0)" in line)


async def request_soon(exporter: Rig) -> None:
    request = Snapshot(resource="configmaps", wait=False)
    await asyncio.to_thread(ask, exporter.folder / "state", request)


async def test_after_a_crash_in_the_middle_all_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    async with rig(tmp_path, random.Random(5)) as exporter:
        for _ in range(1200):
            exporter.truth.create()
        await exporter.run()
        before = len(exporter.out.read_bytes().splitlines())
        await exporter.run(die_at=f"comparing:{portion_line()}#2", meanwhile=lambda: request_soon(exporter))
        assert exporter.died == 1
        await exporter.run()
        ids, events = set(), [json.loads(line) for line in exporter.out.read_bytes().splitlines()[before:]]
        for event in events:
            if event["origin"] == "snapshot" and ".object." in event["type"]:
                assert event["type"].endswith(".added")
                ids.add(event["id"])
        done = [each["data"]["object"] for each in events if each["type"].endswith("synced")]
        assert [each["reason"] for each in done] == ["requested"]
        assert len(ids) >= done[0]["objects"] >= 1100
        assert not [event for event in events if event["type"].endswith("gap")]
        seen = {each["id"] for each in map(json.loads, exporter.out.read_bytes().splitlines())}
        assert set(exporter.truth.versions) <= seen
