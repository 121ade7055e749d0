"""Scenarios of the API server and of the network that only FakeCluster can be made to show.

The number in a test's name is the scenario's in RELIABILITY.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kexport import kube
from kexport.backoff import Backoff
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply
from tests.exporter import Exporter, Memory, toml
from tests.following import stats_of, watching
from tests.objects import config, configmap, eventually, seen

WATCH = "resourceVersion="  # in a watch's query, and in that of a probe or exact list, but not in a listing's


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    """Without the long waits of the real thing; their numbers have tests of their own."""
    monkeypatch.setattr("kexport.streams.SOON_SECONDS", 0.02)
    monkeypatch.setattr("kexport.informer.Backoff", lambda: Backoff(0.01, 0.05))
    async with FakeCluster(fresh_wait_seconds=0.05) as cluster:
        yield cluster


async def test_scenario_5_bookmarks_let_a_quiet_stream_survive_a_rolling_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("kexport.informer.Backoff", lambda: Backoff(0.01, 0.05))
    memory = Memory()
    async with FakeCluster(replicas=2, fresh_wait_seconds=0.05) as fake:
        configmap(fake, "a")
        fake.steer(0)
        async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
            await watching(exporter)
            await fake.restart(1)  # its watch cache begins after all that the stream has seen
            fake.heartbeat(100)
            fake.bookmark()
            await eventually(lambda: stats_of(exporter).version == str(fake.revision))
            fake.steer(1)
            await fake.restart(0)
            configmap(fake, "b")
            await exporter.until(lambda _events: ("added", "b") in seen(memory))
            assert stats_of(exporter).snapshots == 1
    assert "gap" not in {event.change for event in memory.events}


async def test_scenario_5_a_watch_cache_that_is_being_filled_is_waited_for(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        with fake.initializing():
            fake.hang_up()
            await eventually(lambda: stats_of(exporter).state == "throttled")
            configmap(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))
        assert stats_of(exporter).snapshots == 1


async def test_scenario_6_while_every_server_is_down_the_place_is_kept(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    configmap(fake, "a")
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        await fake.stop_listening()
        await eventually(lambda: stats_of(exporter).state == "disconnected")
        configmap(fake, "b")
        fake.delete("configmaps", "default", "a")
        await fake.listen()
        await exporter.until(lambda _events: ("deleted", "a") in seen(memory))
        assert stats_of(exporter).snapshots == 1
    assert seen(memory)[-2:] == [("added", "b"), ("deleted", "a")]


async def test_scenario_9_a_restored_etcd_whose_counter_was_moved_on_is_compared(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    configmap(fake, "kept")
    backup = fake.revision
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        configmap(fake, "void")
        await exporter.until(lambda _events: ("added", "void") in seen(memory))
        fake.rollback(backup, bump_revisions=1_000_000_000)
        before = len(fake.requests)
        configmap(fake, "new")
        await exporter.until(lambda _events: ("added", "new") in seen(memory))
        asked = [path for _, path in fake.requests[before:] if "Exact" in path]
        assert len(asked) < 100  # the history's beginning is found by halving
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
    assert seen(memory).count(("deleted", "void")) == 1
    gap = next(event for event in memory.events if event.change == "gap").data["object"]
    assert (gap["reason"], gap["deleted"] + gap["recovered"] > 0) == ("expired", True)
    assert int(gap["to"]) > int(gap["from"]) + 900_000_000


async def test_scenario_11_a_watch_that_the_server_closed_goes_on_at_once(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        for number in range(20):
            configmap(fake, f"c{number}")
            fake.hang_up()
            await exporter.until(lambda _events, n=number: ("added", f"c{n}") in seen(memory))  # type: ignore[misc]
        assert stats_of(exporter).snapshots == 1
    assert seen(memory)[1:] == [("added", f"c{number}") for number in range(20)]


async def test_scenario_11_a_watch_that_says_nothing_and_ends_at_once_is_not_asked_for_again_at_once(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    class Noted(Backoff):
        def next(self, retry_after: float | None = None) -> float:
            waits.append(super().next(retry_after))
            return 0.0

    monkeypatch.setattr("kexport.informer.Backoff", Noted)
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        fake.script(Reply(), times=4, verb="watch", path_contains=WATCH)
        fake.hang_up()
        await eventually(lambda: len(waits) >= 4)
        configmap(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))
    assert waits[3] > 2 * waits[0] > 0.5


async def test_scenario_12_a_half_open_connection_is_noticed_by_its_silence(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kube.INACTIVITY_SECONDS == 75.0  # bookmarks come each minute; a server may forget after 75 s
    monkeypatch.setattr("kexport.informer.INACTIVITY_SECONDS", 0.3)
    memory = Memory()
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        fake.heartbeat()
        fake.bookmark()
        await eventually(lambda: stats_of(exporter).bookmark > 0)
        fake.script(Reply(then="hang"), verb="watch", path_contains=WATCH)
        fake.hang_up()
        configmap(fake, "a")
        await exporter.until(lambda _events: ("added", "a") in seen(memory))
        assert stats_of(exporter).snapshots == 1
    assert "gap" not in {event.change for event in memory.events}


async def test_scenario_12_where_no_bookmarks_come_silence_is_no_trouble(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.informer.INACTIVITY_SECONDS", 0.2)
    memory = Memory()
    resources = [{"resource": "configmaps"}, {"resource": "events"}]
    text = toml(tmp_path, {"url": fake.url}, resources)
    async with Exporter(text, memory) as exporter:
        await watching(exporter, 2)
        fake.heartbeat()
        fake.bookmark()
        await eventually(lambda: stats_of(exporter).bookmark > 0)
        fake.hang_up()
        await eventually(lambda: stats_of(exporter).watches > 4)  # taken for dead, again and again
        assert stats_of(exporter, "events/*").watches <= 2


async def test_scenario_14_a_reader_that_is_too_slow_is_closed_and_catches_up_and_its_lag_is_shown(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    fake.watcher_buffer = 10
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        with fake.stall("watch=1"):
            for number in range(50):
                configmap(fake, f"c{number:02d}", padding="x" * 50_000)
            assert stats_of(exporter).version != str(fake.revision)
        fake.hang_up()
        await exporter.until(lambda _events: ("added", "c49") in seen(memory))
        assert stats_of(exporter).version == str(fake.revision)
        assert stats_of(exporter).heard > 0  # kexport_stream_heard_age_seconds, and the health page, show it
    assert [name for change, name in seen(memory) if change == "added"] == [f"c{n:02d}" for n in range(50)]
