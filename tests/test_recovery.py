"""History that is read back: against everything that really happened, and where it can't be had."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from kexport import snapshot as snapshots
from kexport.change import Known, Resource, Stream
from kexport.encoder import Encoder
from kexport.history import History, UnreadableError
from kexport.kube import Client
from kexport.places import Resync
from kexport.recovery import Recovery
from kexport.shape import Shaper
from kexport.snapshot import Snapshot
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, told, toml

MAPS = Resource(group="", version="v1", name="configmaps", kind="ConfigMap", namespaced=True)
STREAM = Stream(resource=MAPS)
SHAPER = Shaper("configmaps", b"key")


class Happened(NamedTuple):
    change: str
    key: str
    uid: str
    version: int
    value: str


class Story:
    """Writes to a fake cluster, and remembers every change."""

    def __init__(self, fake: FakeCluster, *, seed: int = 0) -> None:
        self.fake = fake
        self.random = random.Random(seed)
        self.alive: dict[str, Happened] = {}
        self.all: list[Happened] = []

    def put(self, name: str, value: str = "", *, namespace: str = "default") -> None:
        metadata = {"name": name, "namespace": namespace}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}
        key = f"{namespace}/{name}"
        stored = self.fake.update(body) if key in self.alive else self.fake.create(body)
        change = "modified" if key in self.alive else "added"
        at = int(stored["metadata"]["resourceVersion"])
        self.alive[key] = Happened(change, key, stored["metadata"]["uid"], at, value)
        self.all.append(self.alive[key])

    def delete(self, name: str, *, namespace: str = "default") -> None:
        self.fake.delete("configmaps", namespace, name)
        last = self.alive.pop(f"{namespace}/{name}")
        self.all.append(last._replace(change="deleted", version=self.fake.revision))

    def go_on(self, changes: int) -> None:
        for _ in range(changes):
            name, namespace = self.random.choice("abcdefgh"), self.random.choice(["default", "kube-system"])
            if f"{namespace}/{name}" in self.alive and self.random.random() < 0.35:
                self.delete(name, namespace=namespace)
            else:
                self.put(name, f"{len(self.all)}", namespace=namespace)
            if self.random.random() < 0.2:
                self.fake.heartbeat(self.random.randrange(1, 4))

    @property
    def index(self) -> dict[str, Known]:
        return index_after(self.all)


def index_after(happened: list[Happened]) -> dict[str, Known]:
    """What an exporter that was told all this knows."""
    index: dict[str, Known] = {}
    for each in happened:
        if each.change == "deleted":
            del index[each.key]
        else:
            index[each.key] = Known(each.uid, str(each.version))
    return index


def without_brief_lives(happened: list[Happened]) -> list[Happened]:
    added = {each.uid for each in happened if each.change == "added"}
    gone = {each.uid for each in happened if each.change == "deleted"}
    return [each for each in happened if each.uid not in added & gone]


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@asynccontextmanager
async def a_client(fake: FakeCluster, **config: Any) -> AsyncIterator[Client]:
    client = Client(ClusterConfig(url=fake.url, list_requests_per_second=10_000, **config))
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def recovered(
    fake: FakeCluster, known: dict[str, Known], resync: Resync, *, stream: Stream = STREAM, **config: Any
) -> tuple[Recovery, list[Happened]]:
    """Recover from `known` to now; the recovery, and what it tells."""
    async with a_client(fake, **config) as client:
        with Snapshot(stream, SHAPER, known) as snapshot:
            await snapshots.take(client, snapshot, at=str(fake.revision))
            recovery = Recovery(snapshot, known, resync, client=client, shaper=SHAPER)
            assert recovery.possible
            await recovery.run()
    return recovery, list(said(recovery))


def said(recovery: Recovery) -> Iterator[Happened]:
    for portion in recovery.portions(Encoder(STREAM, "c")):
        for event in portion.events:
            uid, _, tail = event.id.partition("/")
            version = event.attributes.resourceversion
            assert tail == ("deleted" if event.change == "deleted" else version)
            obj = event.data["object"]
            assert (obj["kind"], obj["metadata"]["uid"]) == ("ConfigMap", uid)
            assert obj["metadata"]["resourceVersion"] == version
            yield Happened(event.change, event.subject, uid, int(version), obj["data"]["v"])


def gap(since: int, **more: Any) -> Resync:
    return Resync(reason="expired", since=str(since), **more)


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
    assert set(found) > set(without_brief_lives(truth))
    assert not recovery.covered


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


async def test_objects_that_fell_back_before_are_walked_and_the_gap_stays_incomplete(
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
    recovery, found = await recovered(fake, known, gap(since, upto=str(upto)))
    assert [(each.key, each.value) for each in found] == [
        ("default/a", "1"), ("default/a", "2"), ("default/b", "2"),
    ]  # fmt: skip
    assert not recovery.covered


async def test_a_new_object_that_fell_back_before_has_its_whole_life_told(fake: FakeCluster) -> None:
    story = Story(fake)
    story.put("b", "0")
    known, since = story.index, fake.revision
    story.put("new", "0")
    story.put("b", "1")
    upto = fake.revision
    story.put("new", "1")
    known["default/b"] = Known(known["default/b"].uid, str(upto))
    recovery, found = await recovered(fake, known, gap(since, upto=str(upto)))
    assert [(each.change, each.value) for each in found] == [("added", "0"), ("modified", "1")]
    assert not recovery.covered


@pytest.mark.parametrize(("objects", "items"), [(3, 1000), (1000, 20)])
async def test_a_scan_is_bounded_by_the_size_of_the_stream(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, objects: int, items: int
) -> None:
    monkeypatch.setattr("kexport.recovery.SCAN_OBJECTS", objects)
    monkeypatch.setattr("kexport.recovery.SCAN_ITEMS", items)
    story = Story(fake)
    for name in "abcd":
        story.put(name)
    known, since, start = story.index, fake.revision, len(story.all)
    for value in "123":
        for name in "abcd":
            story.put(name, value)
    recovery, found = await recovered(fake, known, gap(since))
    assert found == story.all[start:]
    assert not recovery.covered
    lists = [path for _, path in fake.requests if "Exact" in path and "fieldSelector" not in path]
    assert len(lists) == (1 if objects == 3 else 1 + 1 + 20 // 4 - 1)


async def test_portions_lead_the_index_to_the_listing(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.recovery.PORTION", 7)
    story = Story(fake, seed=3)
    story.go_on(20)
    index, since, start = dict(story.index), fake.revision, len(story.all)
    story.go_on(50)
    recovery, _ = await recovered(fake, index, gap(since))
    resync, count = gap(since), start
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
    ("budget", "whole"),
    [
        ({"recover_max_requests": 0}, 0),
        ({"recover_max_seconds": 0}, 0),
        ({"recover_max_requests": 12, "recover_scan_revisions": 0}, None),
    ],
)
async def test_a_budget_that_is_used_up_leaves_the_rest_to_the_comparison(
    fake: FakeCluster, budget: dict[str, Any], whole: int | None
) -> None:
    story = Story(fake)
    for name in "abcdefghij":
        story.put(name)
    known, since, start = story.index, fake.revision, len(story.all)
    for value in "12":
        for name in "abcdefghij":
            story.put(name, value)
    before = len(fake.requests)
    recovery, found = await recovered(fake, known, gap(since), **budget)
    assert sum("Exact" in path and "fieldSel" in path for _, path in fake.requests[before:]) <= 12
    assert not recovery.covered
    if whole is None:
        assert 0 < len(recovery.whole) < 10
    else:
        assert len(recovery.whole) == whole
    # An object is told whole or not at all.
    assert found == [each for each in story.all[start:] if each.key in recovery.whole]


async def test_memory_is_bounded(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(fake)
    for name in "abcdefghij":
        story.put(name)
    known, since, start = story.index, fake.revision, len(story.all)
    for name in "abcdefghij":
        story.put(name, "x" * 10_000)
        story.put(name, "y" * 10_000)
    monkeypatch.setattr("kexport.recovery.MOST_BYTES", 100_000)
    recovery, found = await recovered(fake, known, gap(since))
    assert not recovery.covered
    assert sum(len(each.value) for each in found) < 100_000
    assert found == [each for each in story.all[start:] if each.key in recovery.whole]


async def test_what_etcd_has_compacted_is_left_to_the_comparison(fake: FakeCluster) -> None:
    story = Story(fake)
    story.put("early")
    story.put("late")
    known, since = story.index, fake.revision
    story.put("early", "1")
    story.put("early", "2")
    fake.compact()
    story.put("late", "1")
    story.put("late", "2")
    story.put("early", "3")
    recovery, found = await recovered(fake, known, gap(since))
    assert [(each.key, each.value) for each in found] == [("default/late", "1"), ("default/late", "2")]
    assert recovery.whole == {"default/late"}
    assert not recovery.covered


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_that_passes_is_waited_out(
    fake: FakeCluster, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.history.FIRST_PAUSE_SECONDS", 0.01)
    story = Story(fake, seed=1)
    story.go_on(10)
    known, since, start = story.index, fake.revision, len(story.all)
    story.go_on(20)
    fake.fail(status, times=5, path_contains="fieldSelector")
    recovery, found = await recovered(fake, known, gap(since))
    assert found == story.all[start:]
    assert recovery.covered


@pytest.mark.parametrize(("status", "asked"), [(400, 1), (403, 1), (410, 2), (504, 2), (500, 8)])
async def test_a_refusal_is_believed_after_so_many_requests(
    fake: FakeCluster, status: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.history.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("kexport.history.LONGEST_PAUSE_SECONDS", 0.002)
    fake.fail(status, times=100, path_contains="fieldSelector")
    async with a_client(fake) as client:
        history = History(STREAM, client)
        with pytest.raises(UnreadableError):
            await history.version("default/a", fake.revision)
        assert history.requests == asked


async def test_retry_after_is_honoured(fake: FakeCluster) -> None:
    fake.fail(429, times=1, path_contains="fieldSelector", retry_after=1)
    async with a_client(fake) as client:
        history = History(STREAM, client)
        assert await history.version("default/a", fake.revision) is None
        assert history.seconds >= 1


class Liar:
    """A server that answers something else than was asked for."""

    def __init__(self, answer: Any) -> None:
        self.config = ClusterConfig()
        self._answer = msgspec.json.encode(answer)

    async def get(self, _path: str, **_query: Any) -> bytes:
        return self._answer


def listing(version: str, *items: dict[str, str]) -> dict[str, Any]:
    whole = [{"metadata": item} for item in items]
    return {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": version},
            "items": whole}  # fmt: skip


A = {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "5"}


@pytest.mark.parametrize(
    "answer",
    [
        "nonsense",
        listing("8", A),  # not the version that was asked for: a server that ignores Exact
        listing("7", A, {**A, "name": "b"}),  # … or the field selector
        listing("7", {**A, "name": "b"}),
        listing("7", {"name": "a"}),
    ],
)
async def test_an_answer_to_another_question_is_no_history(answer: Any) -> None:
    history = History(STREAM, Liar(answer))  # type: ignore[arg-type]
    with pytest.raises(UnreadableError):
        await history.version("default/a", 7)


@pytest.mark.parametrize("answer", ["nonsense", listing("8", A)])
async def test_a_list_at_another_version_is_no_history(answer: Any) -> None:
    history = History(STREAM, Liar(answer))  # type: ignore[arg-type]
    with pytest.raises(UnreadableError):
        await history.everything(7)


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
        (Stream(resource=MAPS, label_selector="a=b"), gap(5), "9", False),
        (Stream(resource=MAPS, field_selector="metadata.name=x"), gap(5), "9", False),
    ],
)
def test_when_there_is_a_history(stream: Stream, resync: Resync, version: str, *, possible: bool) -> None:
    with Snapshot(stream, SHAPER, {}) as snapshot:
        snapshot.version = version
        recovery = Recovery(snapshot, {}, resync, client=Liar({}), shaper=SHAPER)  # type: ignore[arg-type]
        assert recovery.possible == possible


# -- in the engine ----------------------------------------------------------------------------------------


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


async def test_what_was_overlooked_before_a_crash_stays_overlooked(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the gap may be short enough for a scan; that says nothing about its beginning."""
    monkeypatch.setattr("kexport.recovery.PORTION", 1)
    text = configured(fake, tmp_path).replace("[cluster]", "[cluster]\nrecover_scan_revisions = 9")
    memory, story = Memory(), Story(fake)
    story.put("a")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    story.put("brief")
    story.delete("brief")
    story.put("a", "1")
    fake.heartbeat(7)
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


async def test_with_a_selector_nothing_is_read_back(fake: FakeCluster, tmp_path: Path) -> None:
    text, memory = configured(fake, tmp_path, field_selector="metadata.namespace=default"), Memory()
    story = Story(fake)
    story.put("a")
    story.put("b")
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    story.put("a", "1")
    story.delete("b")
    await fake.restart()
    events, said = await after_gap(text, memory)
    assert told(events)[:2] == [("left", "default/b", "resync"), ("modified", "default/a", "resync")]
    assert (said["recovered"], said["complete"]) == (0, False)
    assert not any("metadata.name%3D" in path or "metadata.name=" in path for _, path in fake.requests)
