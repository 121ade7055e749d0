"""A configuration that changes while the exporter runs: the rest goes on, a bad one is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kexport.errors import ConfigError, TransientError
from kexport.sink import Sink, SinkConfig, SinkContext, SinkType
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory
from tests.objects import configmap, eventually
from tests.reloading import RETRY, Setting, names, refused, reloaded, secret


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def setting(fake: FakeCluster, tmp_path: Path) -> Setting:
    return Setting(fake, tmp_path)


async def test_a_resource_comes_and_goes_and_the_others_go_on(fake: FakeCluster, setting: Setting) -> None:
    memory = Memory()
    secret(fake, "s")
    async with Exporter(setting, memory) as exporter:
        await exporter.synced()
        stats = exporter.engine.stats.streams["configmaps/*"]
        await eventually(lambda: stats.watches == 1)
        setting.document["resources"].append({"resource": "secrets"})
        await reloaded(exporter)
        await exporter.until(lambda _events: "s" in names(memory))
        assert stats.watches == 1
        setting.document["resources"].pop()
        await reloaded(exporter)
        assert set(exporter.engine.stats.streams) == {"configmaps/*"}
        secret(fake, "unseen")
        configmap(fake, "seen")
        await exporter.until(lambda _events: "seen" in names(memory))
    assert "unseen" not in names(memory)
    assert {event.change for event in memory.events} == {"added", "synced"}


async def test_a_resource_that_is_taken_up_again_is_compared(fake: FakeCluster, setting: Setting) -> None:
    memory = Memory()
    both = [{"resource": "configmaps"}, {"resource": "secrets"}]
    setting.document["resources"] = both
    async with Exporter(setting, memory) as exporter:
        await exporter.synced(2)
        setting.document["resources"] = both[:1]
        await reloaded(exporter)
        secret(fake, "meanwhile")
        setting.document["resources"] = both
        await reloaded(exporter)
        await exporter.until(lambda _events: "meanwhile" in names(memory))
    assert names(memory).count("meanwhile") == 1


async def test_scenario_40_an_object_that_a_new_selector_leaves_out_is_not_deleted(
    fake: FakeCluster, setting: Setting
) -> None:
    memory = Memory()
    configmap(fake, "plain")
    async with Exporter(setting, memory) as exporter:
        await exporter.synced()
        setting.document["resources"] = [{"resource": "configmaps", "label_selector": "team=web"}]
        await reloaded(exporter)
        await exporter.synced(2)
    assert not {"deleted", "left"} & {event.change for event in memory.events}


async def test_fields_that_are_dropped_from_now_on(fake: FakeCluster, setting: Setting) -> None:
    memory = Memory()
    async with Exporter(setting, memory) as exporter:
        await exporter.synced()
        configmap(fake, "whole", n="1")
        await exporter.until(lambda _events: "whole" in names(memory))
        setting.document["transforms"] = [{"resources": ["*"], "drop": ["data"]}]
        await reloaded(exporter)
        configmap(fake, "cut", n="1")
        await exporter.until(lambda _events: "cut" in names(memory))
    assert ["data" in event.data["object"] for event in memory.events if event.attributes.objname] == [
        True,
        False,
    ]


async def test_a_sink_that_comes_gets_what_follows_and_one_that_goes_holds_nothing(
    fake: FakeCluster, setting: Setting
) -> None:
    memory, other = Memory(), Memory()
    async with Exporter(setting, memory, other=other.type("other")) as exporter:
        await exporter.synced()
        configmap(fake, "a")
        await exporter.until(lambda _events: "a" in names(memory))
        setting.document["sinks"]["second"] = {"type": "other"}
        await reloaded(exporter)
        configmap(fake, "b")
        await exporter.until(lambda _events: "b" in names(memory))
        await other.until(lambda _events: "b" in names(other))
        assert names(other) == ["b"]
        del setting.document["sinks"]["second"]
        await reloaded(exporter)
        assert set(exporter.engine.stats.lanes) == {"memory"}
        configmap(fake, "c")
        await exporter.until(lambda _events: "c" in names(memory))
    assert names(other) == ["b"]


async def test_a_sink_whose_settings_change_goes_on_where_it_was(fake: FakeCluster, setting: Setting) -> None:
    memory = Memory()
    down = True

    def fail(_events: Any) -> None:
        if down:
            raise TransientError("down")

    memory.fail = fail
    async with Exporter(setting, memory) as exporter:
        configmap(fake, "a")
        lanes = exporter.engine.stats.lanes
        await eventually(lambda: "memory" in lanes and lanes["memory"].retries > 0)
        setting.document["sinks"]["memory"]["batch"] = {"max_events": 1}
        await reloaded(exporter)
        down = False
        configmap(fake, "b")
        await exporter.until(lambda _events: "b" in names(memory))
    assert names(memory) == ["a", "b"]
    assert set(memory.batches) == {1}


async def test_routes_change_from_the_next_event_on(fake: FakeCluster, setting: Setting) -> None:
    memory = Memory()
    setting.document["resources"].append({"resource": "secrets"})
    async with Exporter(setting, memory) as exporter:
        await exporter.synced(2)
        setting.document["routes"] = [{"resources": ["secrets"], "sinks": ["memory"]}]
        await reloaded(exporter)
        configmap(fake, "c")
        secret(fake, "s")
        await exporter.until(lambda _events: "s" in names(memory))
    assert names(memory) == ["s"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda setting: setattr(setting, "head", "resource = 1\n"), "resource"),
        (lambda setting: setting.document["resources"].append({"resource": "podz"}), "podz"),
        (lambda setting: setting.document["sinks"].update(x={"type": "nothing"}), "sinks.x.type"),
        (lambda setting: setting.document["journal"].update(max_bytes=1 << 21), "journal.max_bytes"),
        (lambda setting: setting.document["cluster"].update(name="other"), "cluster.name"),
        (
            lambda setting: setting.document.update(routes=[{"resources": ["podz"], "sinks": ["memory"]}]),
            "podz",
        ),
        (lambda setting: setting.document.update(transforms=[{"resources": ["*"], "drop": ["a["]}]), "drop"),
        (lambda setting: setting.document["sinks"].update(x={"type": "picky"}), "sinks.x: never"),
    ],
)
async def test_a_configuration_that_cannot_be_used_is_refused_whole_and_the_old_one_goes_on(
    fake: FakeCluster, setting: Setting, change: Callable[[Setting], None], words: str
) -> None:
    memory = Memory()

    def never(_config: SinkConfig, _context: SinkContext) -> Sink:
        raise ConfigError("never")

    async with Exporter(setting, memory, picky=SinkType("picky", SinkConfig, never)) as exporter:
        await exporter.synced()
        setting.document["resources"].append({"resource": "secrets"})
        change(setting)
        assert words in await refused(exporter)
        configmap(fake, "a")
        await exporter.until(lambda _events: "a" in names(memory))
        assert set(exporter.engine.stats.streams) == {"configmaps/*"}
        assert set(exporter.engine.stats.lanes) == {"memory"}


async def test_a_file_that_was_mended_is_taken(fake: FakeCluster, setting: Setting) -> None:
    memory = Memory()
    async with Exporter(setting, memory) as exporter:
        await exporter.synced()
        setting.head = "nonsense\n"
        await refused(exporter)
        setting.head = ""
        exporter.engine.reload()
        await eventually(lambda: not exporter.engine.stats.reload_error)


async def test_the_file_is_looked_at_without_a_signal(fake: FakeCluster, setting: Setting) -> None:
    memory = Memory()
    setting.head = "reload_seconds = 0.05\n"
    async with Exporter(setting, memory) as exporter:
        await exporter.synced()
        setting.document["resources"].append({"resource": "secrets"})
        await exporter.synced(2)
        setting.head = "nonsense\n"
        await eventually(lambda: exporter.engine.stats.reload_failures > 0)
        await asyncio.sleep(0.3)
        assert exporter.engine.stats.reload_failures == 1  # said once, not at each look


async def test_a_file_that_stays_as_it_is_disturbs_nobody(fake: FakeCluster, setting: Setting) -> None:
    memory, looks = Memory(), []
    setting.head = "reload_seconds = 0.01\n"

    def looked_at() -> str:
        looks.append(setting())
        return looks[-1]

    async with Exporter(looked_at, memory) as exporter:
        await exporter.synced()
        await eventually(lambda: len(looks) > 10)
        assert exporter.engine.stats.reloads == 0


class Shut(Sink):
    """Can never be opened."""

    def __init__(self, _config: SinkConfig, _context: SinkContext) -> None:
        pass

    async def open(self) -> None:
        raise ConfigError("no such place")

    async def write(self, events: Any) -> None:
        raise AssertionError


async def test_a_new_sink_that_can_never_work_does_not_end_the_others(
    fake: FakeCluster, setting: Setting
) -> None:
    memory = Memory()
    async with Exporter(setting, memory, shut=SinkType("shut", SinkConfig, Shut)) as exporter:
        await exporter.synced()
        setting.document["sinks"]["x"] = {"type": "shut", "retry": RETRY}
        await reloaded(exporter)
        await _goes_on_beside_x(exporter, fake, memory)


async def test_a_sink_that_worked_once_and_never_will_again_does_not_end_the_others_at_a_start(
    fake: FakeCluster, setting: Setting
) -> None:
    memory, shut = Memory(), SinkType("shut", SinkConfig, Shut)
    setting.document["sinks"]["x"] = {"type": "memory", "retry": RETRY}
    async with Exporter(setting, memory, shut=shut) as exporter:
        await exporter.synced()
        assert exporter.engine.stats.lanes["x"].written
    setting.document["sinks"]["x"] = {"type": "shut", "retry": RETRY}
    async with Exporter(setting, memory, shut=shut) as exporter:
        await _goes_on_beside_x(exporter, fake, memory)


async def _goes_on_beside_x(exporter: Exporter, fake: FakeCluster, memory: Memory) -> None:
    lanes = exporter.engine.stats.lanes
    await eventually(lambda: "x" in lanes and lanes["x"].retries > 1)
    assert "no such place" in lanes["x"].error
    configmap(fake, "a")
    await exporter.until(lambda _events: "a" in names(memory))
