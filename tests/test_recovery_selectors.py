"""A stream that was down says what one that never was has said: selectors, patterns, several API servers."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, toml

LABELS: list[dict[str, str]] = [{}, {"t": "a"}, {"t": "b"}, {"t": "a", "u": "1"}]


class Writing:
    """Makes, relabels and deletes, by a seed; namespaces take turns."""

    def __init__(self, fake: FakeCluster, seed: int) -> None:
        self._fake = fake
        self._random = random.Random(seed)
        self._alive: set[tuple[str, str]] = set()

    def go_on(self, changes: int) -> None:
        for number in range(changes):
            namespace, name = self._random.choice(["default", "kube-system"]), self._random.choice("abcde")
            if (namespace, name) in self._alive and self._random.random() < 0.2:
                self._fake.delete("configmaps", namespace, name)
                self._alive.remove((namespace, name))
                continue
            self._put(namespace, name, number)
            if self._random.random() < 0.3:
                self._fake.heartbeat(self._random.randrange(1, 4))

    def _put(self, namespace: str, name: str, number: int) -> None:
        metadata = {"name": name, "namespace": namespace, "labels": self._random.choice(LABELS)}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"n": str(number)}}
        if (namespace, name) in self._alive:
            self._fake.update(body)
        else:
            self._fake.create(body)
        self._alive.add((namespace, name))

    def last(self) -> None:
        """Something that every selection has."""
        metadata = {"name": "last", "namespace": "kube-system", "labels": {"t": "a"}}
        self._fake.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def said(events: list[Any]) -> list[tuple[str, str, Any]]:
    return [(e.change, e.id, e.data) for e in events if ".object." in e.type]


async def both(
    fake: FakeCluster, directory: Path, seed: int, cluster: dict[str, Any], **entry: Any
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """What a witness saw of a seeded history, what came back after it, and the gap event."""
    writing, witness, memory = Writing(fake, seed), Memory(), Memory()
    writing.go_on(15)
    entries = [{"resource": "configmaps", **entry}]
    up = toml(directory / "up", {"url": fake.url}, entries)
    down = toml(directory / "down", {"url": fake.url, **cluster}, entries)
    async with Exporter(down, memory) as exporter:
        await exporter.synced()
    seen = len(memory.events)
    async with Exporter(up, witness) as exporter:
        await exporter.synced()
        start = len(witness.events)
        writing.go_on(60)
        writing.last()
        await exporter.until(lambda events: any("kube-system/last" in e.subject for e in events))
    await fake.restart()
    if fake.replicas > 1:
        fake.lag(1, revisions=math.inf)
        fake.heartbeat(6)
        await fake.restart(0)
    async with Exporter(down, memory) as exporter:
        await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
    found = memory.events[seen:]
    (gap,) = [e.data["object"] for e in found if e.change == "gap"]
    assert {e.attributes.origin for e in found if ".object." in e.type} == {"recovered"}
    return said(witness.events[start:]), said(found), gap


SELECTIONS: dict[str, dict[str, Any]] = {
    "equal": {"label_selector": "t=a"},
    "set": {"label_selector": "t in (a, b),!u"},
    "unequal": {"label_selector": "t!=b"},
    "not a name": {"field_selector": "metadata.name!=c"},
    "a namespace's": {"field_selector": "metadata.namespace=kube-system", "label_selector": "t=a"},
    "pattern": {"namespaces": ["kube-*"], "label_selector": "t=a"},
    "pattern alone": {"namespaces": ["kube-*"]},
    "namespace": {"namespaces": ["kube-system"], "label_selector": "t"},
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("which", SELECTIONS)
async def test_a_selection_comes_back_as_a_watch_has_shown_it(
    fake: FakeCluster, tmp_path: Path, which: str, seed: int
) -> None:
    seen, found, gap = await both(fake, tmp_path, seed, {}, **SELECTIONS[which])
    assert len(seen) > 5
    assert found == seen
    assert gap["complete"] is True


async def test_the_one_object_that_a_selector_names_leaves_by_its_deletion_alone(
    fake: FakeCluster, tmp_path: Path
) -> None:
    text = toml(
        tmp_path, {"url": fake.url}, [{"resource": "configmaps", "field_selector": "metadata.name=a"}]
    )
    memory, writing = Memory(), Writing(fake, 1)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
    fake.create(body)
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    seen = len(memory.events)
    fake.delete("configmaps", "default", "a")
    gone_at = fake.revision
    writing.last()
    fake.create(body)
    await fake.restart()
    async with Exporter(text, memory) as exporter:
        await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
    found = [
        (e.change, int(e.attributes.resourceversion)) for e in memory.events[seen:] if ".object." in e.type
    ]
    assert found == [("left", gone_at), ("added", gone_at + 2)]


@pytest.mark.parametrize("selection", [{}, {"label_selector": "t=a"}], ids=["all", "selected"])
async def test_samples_alone_overlook_but_invent_nothing_and_say_so(
    fake: FakeCluster, tmp_path: Path, selection: dict[str, Any]
) -> None:
    seen, found, gap = await both(fake, tmp_path, 7, {"recover_scan_revisions": 0}, **selection)
    ids = [each[1] for each in seen]
    places = [ids.index(each[1]) for each in found]
    assert places == sorted(places)
    assert [seen[place] for place in places] == found
    assert gap["complete"] is False


@pytest.mark.parametrize("selection", [{}, {"label_selector": "t=a"}], ids=["all", "selected"])
async def test_replicas_that_answer_in_turn_one_of_them_behind_tell_one_history(
    tmp_path: Path, selection: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lagging one can't answer for a version that it has not seen yet: 504."""
    monkeypatch.setattr("kexport.history.FIRST_PAUSE_SECONDS", 0.01)
    async with FakeCluster(replicas=2, sticky=False, fresh_wait_seconds=0.02) as fake:
        seen, found, gap = await both(fake, tmp_path, 11, {}, **selection)
    assert found == seen
    assert gap["complete"] is True
