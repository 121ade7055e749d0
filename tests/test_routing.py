"""Routes and transforms in a whole exporter: who gets what, what counts, and what never reaches the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport.metrics import OPENMETRICS, Metrics, page
from kexport.testing.cluster import FakeCluster
from kexport.transform import LAST_APPLIED
from tests.exporter import Exporter, Memory, toml_of
from tests.following import watching
from tests.looking import view_of
from tests.objects import configmap, eventually
from tests.reloading import RETRY, refused, reloaded
from tests.test_security_disk import contents

SECRET = "s3cr3t-hunter2"
OTHER_SECRET = {
    "spec": {
        "containers": [{"name": "web", "image": "i", "env": [{"name": "PASSWORD", "value": SECRET * 2}]}]
    }
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


class Setting:
    """A configuration with a memory sink for each name, which a test may change."""

    def __init__(self, fake: FakeCluster, directory: Path, **tables: Any) -> None:
        self.memories: dict[str, Memory] = {}
        self.document: dict[str, Any] = {
            "cluster": {"name": "test", "url": fake.url},
            "journal": {"path": str(directory / "state")},
            "http": {"listen": ""},
            **tables,
        }

    def __call__(self) -> str:
        return toml_of(self.document)

    def exporter(self, *sinks: str) -> Exporter:
        memories = self.memories = {name: Memory() for name in sinks}
        self.document["sinks"] = {name: {"type": f"to-{name}", "retry": RETRY} for name in sinks}
        types = {f"to-{name}": memory.type(f"to-{name}") for name, memory in memories.items()}
        return Exporter(self, memories[sinks[0]], **types)

    def names(self, sink: str) -> list[str]:
        return [event.attributes.objname for event in self.memories[sink].events if event.attributes.objname]


def web(name: str, *, replicas: int, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": labels,
            "annotations": {LAST_APPLIED: f'{{"password": "{SECRET}"}}', "kept": "yes"},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {"name": "web", "image": "i", "env": [{"name": "PASSWORD", "value": SECRET}]}
                    ]
                },
            },
        },
    }


async def everywhere_synced(setting: Setting, exporter: Exporter) -> None:
    await exporter.synced()
    for memory in setting.memories.values():
        await memory.until(lambda events: any(event.change == "synced" for event in events))


async def test_each_sink_gets_what_its_routes_say_and_the_rest_is_counted(
    fake: FakeCluster, tmp_path: Path
) -> None:
    setting = Setting(
        fake,
        tmp_path,
        resources=[{"resource": "deployments.apps"}],
        routes=[
            {"sinks": ["all"]},
            {"sinks": ["big"], "where": "object.spec.replicas > 3"},
            {"sinks": ["shop"], "labels": "team=shop,!canary", "origins": ["snapshot"]},
            {"sinks": ["sampled"], "sample": 0.5},
            {"sinks": ["slow"], "max_events_per_second": 0.001, "burst_events": 4},
            {"sinks": ["never"], "where": "object.spec.missing == 1"},
        ],
    )
    for number in range(40):
        labels = {"team": "shop" if number % 2 else "search", **({"canary": "1"} if number > 30 else {})}
        fake.create(web(f"web-{number}", replicas=number, **labels))
    async with setting.exporter("all", "big", "shop", "sampled", "slow", "never") as exporter:
        await everywhere_synced(setting, exporter)
        fake.create(web("late", replicas=50, team="shop"))
        await exporter.until(lambda events: events[-1].attributes.objname == "late")
        await eventually(lambda: all(lane.cursor == 42 for lane in exporter.engine.stats.lanes.values()))
        counted, lanes = exporter.engine.stats.routes, exporter.engine.stats.lanes
    everything = [f"web-{number}" for number in range(40)]
    assert sorted(setting.names("all")) == sorted([*everything, "late"])
    assert sorted(setting.names("big")) == sorted([*everything[4:], "late"])
    assert sorted(setting.names("shop")) == sorted(everything[1:31:2]), "late was seen by the watch"
    sampled, slow = len(setting.names("sampled")), len(setting.names("slow"))
    assert 0 < sampled < 41
    assert counted[3, "sampled"].sampled_out == 41 - sampled
    assert slow == 4
    assert counted[4, "slow"].rate_limited == 37
    assert setting.names("never") == []
    assert counted[5, "never"].undecided == 41
    assert lanes["never"].filtered == 41
    assert counted[1, "big"].undecided == 0
    assert [event.change for event in setting.memories["never"].events] == ["synced"]


async def test_a_repeat_after_a_crash_samples_alike(fake: FakeCluster, tmp_path: Path) -> None:
    """The events that one run chose are those that a run which knows nothing of it chooses."""
    for number in range(40):
        configmap(fake, f"c-{number}")
    chosen = []
    for directory in ("one", "two"):
        setting = Setting(
            fake,
            tmp_path / directory,
            resources=[{"resource": "configmaps"}],
            routes=[{"sinks": ["sampled"], "sample": 0.4}],
        )
        async with setting.exporter("sampled") as exporter:
            await exporter.synced()
        chosen.append([event.id for event in setting.memories["sampled"].events if "/" in event.id])
    assert sorted(chosen[0]) == sorted(chosen[1])
    assert 1 < len(chosen[0]) < 40


async def test_what_is_hashed_is_hashed_before_the_journal(fake: FakeCluster, tmp_path: Path) -> None:
    setting = Setting(
        fake,
        tmp_path,
        resources=[{"resource": "deployments.apps", "diff": True}],
        transforms=[
            {"resources": ["*"], "redact": ["env", "last-applied"]},
            {"resources": ["deployments.apps"], "keep": ["metadata.annotations", "spec.template"]},
            {"resources": ["pods"], "drop": ["spec"]},
        ],
    )
    fake.create(web("early", replicas=1, team="shop"))
    async with setting.exporter("all") as exporter:
        await exporter.synced()
        fake.create(web("late", replicas=1, team="shop"))
        fake.patch("deployments.apps", "default", "early", {"spec": {"template": OTHER_SECRET}})
        fake.delete("deployments.apps", "default", "late", grace_seconds=0)
        await exporter.until(lambda events: any(event.change == "deleted" for event in events))
        found = contents(tmp_path)
        assert b"hmac-sha256:" in found
        assert SECRET.encode() not in found
    assert any("previous" in event.data for event in exporter.events)
    for event in exporter.events:
        assert SECRET.encode() not in event.line
        if event.attributes.objname:
            said = event.data["object"]
            assert set(said["metadata"]) == {"name", "namespace", "uid", "resourceVersion", "annotations"}
            assert set(said["spec"]) == {"template"}
            (container,) = said["spec"]["template"]["spec"]["containers"]
            assert container["env"][0]["value"].startswith("hmac-sha256:")
            assert container["image"] == "i"


async def test_a_reload_takes_up_routes_and_transforms_and_tells_nothing_twice(
    fake: FakeCluster, tmp_path: Path
) -> None:
    setting = Setting(
        fake,
        tmp_path,
        resources=[{"resource": "deployments.apps"}, {"resource": "configmaps"}],
        routes=[{"sinks": ["all"], "where": "has(object.nothing)"}],
    )
    fake.create(web("early", replicas=1))
    async with setting.exporter("all") as exporter:
        await watching(exporter, 2)
        watches = exporter.engine.stats.streams["configmaps/*"].watches
        setting.document["routes"] = [{"sinks": ["all"], "where": "object.spec.?replicas.orValue(0) > 3"}]
        setting.document["transforms"] = [{"resources": ["deployments.apps"], "hash": ["spec.template"]}]
        await reloaded(exporter)
        fake.create(web("small", replicas=3))
        fake.create(web("large", replicas=4))
        await exporter.until(lambda _events: "large" in setting.names("all"))
        assert exporter.engine.stats.streams["configmaps/*"].watches == watches, "it was left alone"
        before = dict(setting.document)
        for key, entry, problem in [
            ("routes", {"sinks": ["all"], "where": "objekt.a == 1"}, "routes[0].where: line 1, column 1: "),
            ("routes", {"sinks": ["all"], "labels": "a b"}, "routes[0].labels: label selector 'a b': found"),
            ("routes", {"sinks": ["all"], "burst_events": 2}, "routes[0].burst_events: means nothing with"),
            ("transforms", {"resources": ["*"], "drop": ["kind"]}, "transforms[0].drop: 'kind' would change"),
        ]:
            setting.document = {**before, key: [entry]}
            assert (await refused(exporter)).startswith(problem)
    assert setting.names("all") == ["large"]
    (said,) = [event.data["object"] for event in exporter.events if event.attributes.objname]
    assert said["spec"]["template"].startswith("hmac-sha256:")


async def test_counters_of_routes_survive_a_reload_and_show_in_the_metrics(
    fake: FakeCluster, tmp_path: Path
) -> None:
    setting = Setting(
        fake,
        tmp_path,
        resources=[{"resource": "configmaps"}],
        routes=[{"sinks": ["all"], "where": "object.missing == 1"}],
    )
    configmap(fake, "one")
    async with setting.exporter("all") as exporter:
        await exporter.synced()
        before = exporter.engine.stats.routes[0, "all"].undecided
        assert before
        setting.document["shutdown_seconds"] = 5.0
        await reloaded(exporter)
        configmap(fake, "two")
        await eventually(lambda: exporter.engine.stats.routes[0, "all"].undecided == before + 1)
        answer = page([*Metrics(view_of(exporter)).collect()], OPENMETRICS).body.decode()
        assert f'kexport_route_undecided_events_total{{route="0",sink="all"}} {before + 1:.1f}' in answer
        assert "kexport_route_sampled_out_events_total{" not in answer


async def test_a_condition_sees_what_was_before(fake: FakeCluster, tmp_path: Path) -> None:
    setting = Setting(
        fake,
        tmp_path,
        resources=[{"resource": "deployments.apps", "diff": True}],
        routes=[
            {"sinks": ["all"]},
            {
                "sinks": ["scaled"],
                "where": "has(previous.spec) && object.spec.replicas != previous.spec.replicas",
            },
        ],
    )
    fake.create(web("one", replicas=1))
    async with setting.exporter("all", "scaled") as exporter:
        await everywhere_synced(setting, exporter)
        fake.patch("deployments.apps", "default", "one", {"metadata": {"labels": {"a": "b"}}})
        fake.patch("deployments.apps", "default", "one", {"spec": {"replicas": 2}})
        fake.create(web("end", replicas=1))
        await exporter.until(lambda events: events[-1].attributes.objname == "end")
        cursor = exporter.engine.stats.lanes["scaled"]
        await eventually(lambda: cursor.cursor == exporter.events[-1].position)
    (event,) = [event for event in setting.memories["scaled"].events if event.attributes.objname]
    assert event.data["object"]["spec"]["replicas"] == 2
    assert exporter.engine.stats.routes[1, "scaled"].undecided == 0


async def test_a_deletion_found_by_comparing_has_no_labels_and_passes_by_its_origin(
    fake: FakeCluster, tmp_path: Path
) -> None:
    """Only name, uid and version are known of it: what routes by labels must be told so."""
    setting = Setting(
        fake,
        tmp_path,
        resources=[{"resource": "deployments.apps"}],
        routes=[
            {"sinks": ["shop"], "labels": "team=shop"},
            {"sinks": ["safe"], "labels": "team=shop"},
            {"sinks": ["safe"], "changes": ["deleted"], "origins": ["resync"]},
        ],
    )
    setting.document["cluster"]["recover_max_requests"] = 0
    fake.create(web("gone", replicas=1, team="shop"))
    async with setting.exporter("shop", "safe") as exporter:
        await everywhere_synced(setting, exporter)
    fake.delete("deployments.apps", "default", "gone", grace_seconds=0)
    fake.compact()
    fake.forget()
    async with setting.exporter("shop", "safe") as exporter:
        await eventually(lambda: "gone" in setting.names("safe"))
        await eventually(lambda: any(event.change == "synced" for event in setting.memories["shop"].events))
    assert setting.names("shop") == []
