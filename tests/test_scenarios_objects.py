"""Scenarios of what an API server says about its objects, or fails to, that only FakeCluster can show.

The number in a test's name is the scenario's in RELIABILITY.md.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport.backoff import Backoff
from kexport.errors import ConfigError
from kexport.lines import MAX_LINE_BYTES
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Refusal, Reply
from tests.exporter import Exporter, Memory, toml
from tests.following import stats_of, watching
from tests.objects import config, configmap, eventually, seen

MAPS = "/api/v1/configmaps"
WATCH = "resourceVersion="  # in a watch's query, and in that of a probe or exact list, but not in a listing's


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    """Without the long waits of the real thing; their numbers have tests of their own."""
    monkeypatch.setattr("kexport.streams.SOON_SECONDS", 0.02)
    monkeypatch.setattr("kexport.informer.Backoff", lambda: Backoff(0.01, 0.05))
    async with FakeCluster(fresh_wait_seconds=0.05) as cluster:
        yield cluster


async def test_scenario_20_a_storage_migration_is_exported_as_the_writes_that_it_is(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    for name in "abc":
        configmap(fake, name, n=name)
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        fake.touch("configmaps")
        await exporter.until(lambda _events: len(seen(memory)) >= 7)
    assert sorted(seen(memory)[4:]) == [("modified", name) for name in "abc"]
    assert len({event.id for event in memory.events}) == 7


async def test_scenario_21_a_conversion_that_fails_deletes_nothing_and_stops_no_other_stream(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    resources = [{"resource": "configmaps"}, {"resource": "secrets"}]
    text = toml(tmp_path, {"url": fake.url}, resources)
    configmap(fake, "a")
    async with Exporter(text, memory) as exporter:
        await watching(exporter, 2)
        fake.fail(500, times=30, path_contains=MAPS)
        fake.hang_up()
        await eventually(lambda: stats_of(exporter).state == "failing")
        fake.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}})
        await exporter.until(lambda _events: ("added", "other") in seen(memory))
        configmap(fake, "b")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
        assert stats_of(exporter).snapshots == 1
    assert not {"deleted", "gap"} & {event.change for event in memory.events}


@pytest.mark.parametrize("status", [500, 400, 0])
async def test_scenario_22_what_the_server_cannot_decrypt_is_passed_by_a_listing_after_several_failures(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("kexport.informer.FAILING_TIMES", 3)
    memory = Memory()
    configmap(fake, "a")
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        # Every watch from here fails, and so does the first listing: the object is still there.
        fake.script(Refusal(status=status, in_stream=True), times=4, verb="watch", path_contains=WATCH)
        fake.fail(500, times=1, path_contains="sendInitialEvents")
        fake.hang_up()
        configmap(fake, "b")
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
        configmap(fake, "c")
        await exporter.until(lambda _events: ("added", "c") in seen(memory))
    assert [each for each in seen(memory) if each[0] in {"added", "deleted"}] == [
        ("added", "a"), ("added", "b"), ("added", "c"),
    ]  # fmt: skip
    gap = next(event for event in memory.events if event.change == "gap").data["object"]
    assert gap["reason"] == "unreadable"


async def test_scenario_22_errors_that_pass_cost_no_listing(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        fake.script(Refusal(status=500, in_stream=True), times=9, verb="watch", path_contains=WATCH)
        fake.hang_up()
        configmap(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))
        assert stats_of(exporter).snapshots == 1


async def test_scenario_28_a_resource_without_watch_is_refused_and_one_without_versions_says_so(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    fake.serve("metrics.example.com/v1", "gauges", "Gauge")
    with pytest.raises(ConfigError, match=r"gauges.*watch"):
        async with Exporter(config(fake, tmp_path, "gauges.metrics.example.com"), memory) as exporter:
            await watching(exporter)
    fake.serve("meters.example.com/v1", "meters", "Meter", verbs=("list", "watch"))
    fake.watch_list = False
    text = config(fake, tmp_path / "other", "meters.meters.example.com")
    async with Exporter(text, memory) as exporter:
        await eventually(lambda: bool(exporter.engine.stats.streams))
        stats = stats_of(exporter, "meters.meters.example.com/*")
        await eventually(lambda: "no version that one could go on from" in stats.error)
    assert memory.events == []


async def test_scenario_29_an_object_of_many_megabytes_arrives_whole(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        configmap(fake, "huge", padding="x" * 9_000_000)
        configmap(fake, "small")
        await exporter.until(lambda _events: ("added", "small") in seen(memory))
    assert seen(memory)[1:] == [("added", "huge"), ("added", "small")]
    assert len(memory.events[1].data["object"]["data"]["padding"]) == 9_000_000


async def test_scenario_29_a_line_that_is_too_long_each_time_is_passed_by_a_listing(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        long = Reply(body=b"x" * (MAX_LINE_BYTES + 1) + b"\n")
        fake.script(long, times=2, verb="watch", path_contains=WATCH)
        fake.hang_up()
        configmap(fake, "a")
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
        configmap(fake, "b")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
    assert [each for each in seen(memory) if each[0] == "added"] == [("added", "a"), ("added", "b")]
    gap = next(event for event in memory.events if event.change == "gap").data["object"]
    assert gap["reason"] == "unreadable"


@pytest.mark.parametrize("again", [False, True])
async def test_scenario_30_a_malformed_line_is_read_again_and_the_second_time_passed_by_a_listing(
    fake: FakeCluster, tmp_path: Path, *, again: bool
) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        broken = Reply(body=b'{"type":"ADDED","object":{"metadata":}}\n')
        fake.script(broken, times=2 if again else 1, verb="watch", path_contains=WATCH)
        fake.hang_up()
        configmap(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))
        configmap(fake, "b")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
    gaps = [event.data["object"]["reason"] for event in memory.events if event.change == "gap"]
    assert gaps == (["unreadable"] if again else [])


async def test_scenario_30_what_a_malformed_line_hides_is_read_from_history(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    configmap(fake, "a")
    configmap(fake, "b")
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        broken = Reply(body=b'{"type":"ADDED","object":{"metadata":}}\n')
        fake.script(broken, times=2, verb="watch", path_contains=WATCH)
        fake.hang_up()
        versions = [
            fake.patch("configmaps", "default", "a", {"data": {"n": str(number)}})["metadata"][
                "resourceVersion"
            ]
            for number in range(3)
        ]
        fake.delete("configmaps", "default", "b")
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
    told = [event for event in memory.events if event.attributes.origin == "recovered"]
    assert [(event.change, event.attributes.resourceversion) for event in told] == [
        *(("modified", version) for version in versions), ("deleted", str(int(versions[-1]) + 1)),
    ]  # fmt: skip
    gap = next(event for event in memory.events if event.change == "gap").data["object"]
    assert (gap["reason"], gap["recovered"], gap["complete"]) == ("unreadable", 4, True)


@pytest.mark.parametrize("kind", ["unknown type", "table", "no version", "no name"])
async def test_scenario_32_what_is_no_change_is_neither_guessed_nor_skipped(
    fake: FakeCluster, tmp_path: Path, kind: str
) -> None:
    memory = Memory()
    line: dict[str, Any] = {
        "unknown type": {"type": "EVICTED", "object": _object(name="x", resourceVersion="9")},
        "table": {"type": "ADDED", "object": {"kind": "Table", "metadata": {"resourceVersion": "9"}}},
        "no version": {"type": "ADDED", "object": _object(name="x")},
        "no name": {"type": "DELETED", "object": _object(resourceVersion="9")},
    }[kind]
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        before = stats_of(exporter).version
        body = json.dumps(line).encode() + b"\n"
        fake.script(Reply(body=body, then="hang"), verb="watch", path_contains=WATCH)
        fake.hang_up()
        await eventually(lambda: stats_of(exporter).watches == 3)
        assert stats_of(exporter).version == before
        configmap(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))
    assert seen(memory) == [("synced", ""), ("added", "a")]


async def test_scenario_33_what_a_server_says_again_after_a_reconnection_is_told_once(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        made = [configmap(fake, name) for name in "abc"]
        await exporter.until(lambda _events: ("added", "c") in seen(memory))
        lines = [json.dumps({"type": "ADDED", "object": each}).encode() + b"\n" for each in made]
        fake.script(Reply(body=b"".join(lines)), verb="watch", path_contains=WATCH)
        fake.hang_up()
        configmap(fake, "d")
        await exporter.until(lambda _events: ("added", "d") in seen(memory))
    assert seen(memory) == [("synced", ""), *(("added", name) for name in "abcd")]


def _object(**metadata: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
