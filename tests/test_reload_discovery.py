"""A reload and a discovery that found something new, in each other's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory
from tests.objects import configmap, define, eventually
from tests.reloading import RETRY, Setting, names, secret


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def setting(fake: FakeCluster, tmp_path: Path) -> Setting:
    return Setting(fake, tmp_path)


@pytest.mark.parametrize("sinks", [["memory"], ["memory", "second"]])
async def test_a_discovery_that_ends_while_a_reload_waits_for_it_routes_by_what_is_in_force(
    fake: FakeCluster, setting: Setting, sinks: list[str]
) -> None:
    memory, other = Memory(), Memory()
    setting.document["resources"].append({"resource": "secrets"})
    setting.document["routes"] = [{"resources": ["configmaps"], "sinks": ["memory"]}]
    async with Exporter(setting, memory, other=other.type("other")) as exporter:
        await exporter.synced()
        engine = exporter.engine
        assert engine._lanes
        assert engine._streams
        lane = engine._lanes.find("memory")
        before = lane._batches.wanted
        async with engine._streams._one:  # as a discovery holds it that finds something new
            setting.document["routes"] = [{"resources": ["secrets"], "sinks": sinks}]
            setting.document["sinks"] |= {name: {"type": "other"} for name in sinks[1:]}
            engine.reload()
            await eventually(lambda: lane._batches.wanted is not before)
        await engine._route_anew()
        await eventually(lambda: engine.stats.reloads == 1)
        configmap(fake, "c")
        secret(fake, "s")
        await exporter.until(lambda _events: "s" in names(memory))
    assert names(memory) == ["s"]
    assert names(other) == ["s"] * len(sinks[1:])


@pytest.mark.parametrize(("step", "sink"), [("remove_lane", "one"), ("add_lane", "four")])
async def test_a_discovery_that_ends_while_a_reload_changes_sinks_routes_by_what_comes_into_force(
    fake: FakeCluster, setting: Setting, monkeypatch: pytest.MonkeyPatch, step: str, sink: str
) -> None:
    memory, other = Memory(), Memory()
    setting.document["resources"].append({"resource": "secrets"})
    setting.document["sinks"] |= {name: {"type": "other"} for name in ("one", "two")}
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with Exporter(setting, memory, other=other.type("other")) as exporter:
        await exporter.synced(2)
        engine = exporter.engine
        real = getattr(engine._journal, step)

        async def slow(name: str) -> None:
            if name == sink:
                begun.set()
                await go_on.wait()
            await real(name)

        monkeypatch.setattr(engine._journal, step, slow)
        setting.document["sinks"] = {"memory": {"type": "memory", "retry": RETRY}}
        setting.document["sinks"] |= {name: {"type": "other"} for name in ("three", "four")}
        setting.document["routes"] = [{"resources": ["secrets"], "sinks": ["memory", "three", "four"]}]
        engine.reload()
        await begun.wait()  # "two" is still there, or "three" is there already
        await engine._route_anew()
        go_on.set()
        await eventually(lambda: engine.stats.reloads == 1)
        configmap(fake, "c")
        secret(fake, "s")
        await other.until(lambda _events: names(other).count("s") == 2)
        await exporter.until(lambda _events: "s" in names(memory))
    assert (names(memory), names(other)) == (["s"], ["s", "s"])


async def test_a_route_that_names_what_is_served_no_more_holds_up_nothing_else(
    fake: FakeCluster, setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kexport.streams.SOON_SECONDS", 0.02)
    definition, memory = define(fake, "v1"), Memory()
    setting.document["resources"].append({"resource": "*.example.com"})
    setting.document["routes"] = [{"resources": ["widgets", "configmaps"], "sinks": ["memory"]}]
    async with Exporter(setting, memory) as exporter:
        await exporter.synced(2)
        fake.delete(definition)
        await eventually(lambda: "does not fit what the server serves now" in caplog.text)
        configmap(fake, "c")
        await exporter.until(lambda _events: "c" in names(memory))
