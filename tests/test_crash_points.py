"""The process stops between any two statements of journal and delivery, and nothing is lost or invented.

The engine runs in a child that ends at a chosen line (`os._exit`, as SIGKILL would), against a FakeCluster
here, over HTTP, while objects change. After each crash what lies on disk is looked at, in a copy; the next
run goes on from it. In the end every change must have been delivered, in order, repeats with the same bytes.

Each line of those modules that a run passes is a crash point. `KEXPORT_CRASH_POINTS=all` takes each of them
at its first, its last and a middle visit; otherwise a sample is drawn by `KEXPORT_SEED`, for so long as
`KEXPORT_CRASH_SECONDS` says. Seed and counts are printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonpatch import apply_patch

from kexport.change import StreamKey
from kexport.store import Store
from kexport.testing.cluster import FakeCluster
from tests.crashing_exporter import DIED, Orders
from tests.exporter import toml_of
from tests.objects import configmap, eventually

RUN_SECONDS = 60
STREAM = StreamKey("configmaps/*")
EVERY = os.environ.get("KEXPORT_CRASH_POINTS") == "all"
SAMPLED_SECONDS = float(os.environ.get("KEXPORT_CRASH_SECONDS") or 20)


class Truth:
    """Every change that was made, as the ids that its event must have, in order for each object."""

    def __init__(self, fake: FakeCluster) -> None:
        self.fake = fake
        self.versions: dict[str, int] = {}
        """Id -> the version that made it."""
        self.order: dict[str, list[str]] = {}
        self._living: list[dict[str, Any]] = []
        self._number = 0

    def _note(self, obj: dict[str, Any], *, deleted: bool = False) -> None:
        uid, version = obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
        event = f"{uid}/deleted" if deleted else f"{uid}/{version}"
        self.versions[event] = self.fake.revision if deleted else int(version)
        self.order.setdefault(uid, []).append(event)

    def create(self, name: str = "") -> None:
        self._number += 1
        made = configmap(self.fake, name or f"thing-{self._number}", n="0")
        self._note(made)
        if not name:
            self._living.append(made)

    def change(self, chance: random.Random) -> None:
        """Create, update or delete something."""
        if len(self._living) < 4 or chance.random() < 0.2:
            self.create()
            return
        place = chance.randrange(len(self._living))
        if chance.random() < 0.2:
            gone = self._living.pop(place)["metadata"]
            self.fake.delete("configmaps", gone["namespace"], gone["name"])
            self._note({"metadata": gone}, deleted=True)
        else:
            about = {name: self._living[place]["metadata"][name] for name in ("name", "namespace")}
            now = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about}
            self._living[place] = self.fake.update({**now, "data": {"n": str(self.fake.revision)}})
            self._note(self._living[place])


class Rig:
    """A cluster that changes, and children that export it and die."""

    def __init__(self, folder: Path, fake: FakeCluster, server: Process, chance: random.Random) -> None:
        self.folder = folder
        self.truth = Truth(fake)
        self._server = server
        self._chance = chance
        self._rounds = 0
        self.died = 0
        self.out = folder / "out.jsonl"
        self.out.touch()
        self.config = toml_of(
            {
                "shutdown_seconds": 5,
                "http": {"listen": ""},
                "cluster": {"name": "test", "url": fake.url, "list_requests_per_second": 10_000},
                "journal": {"path": str(folder / "state"), "commit_seconds": 0.001},
                "resources": [{"resource": "configmaps", "diff": True}],
                "sinks": {"synced": {"type": "synced", "retry": {"min_seconds": 0.01, "max_seconds": 0.05}}},
            }
        )

    async def run(
        self,
        *,
        die_at: str = "",
        visited: Path | None = None,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> dict[str, int]:
        """One child, until it dies or has delivered the round's last change; what it visited.

        The first child has synced before that. `meanwhile` begins when the child delivers; the round's other
        changes follow it.
        """
        self._rounds += 1
        end = f"end-{self._rounds}"
        orders = Orders(self.config, str(self.out), end, die_at, str(visited or ""))
        if self._rounds > 1:  # a first listing can't know what was before
            for _ in range(2):
                self.truth.change(self._chance)
        writer = asyncio.create_task(self._write(end, meanwhile))
        code = await self._obeyed(orders)
        await writer
        assert code in ({0, DIED} if die_at else {0}), f"{die_at}: the child ended with {code}"
        self.died += code == DIED
        return msgspec.json.decode(visited.read_bytes(), type=dict[str, int]) if visited else {}

    async def _write(self, end: str, meanwhile: Callable[[], Awaitable[None]] | None) -> None:
        if self._rounds == 1:
            await eventually(lambda: b"io.kexport.stream.synced" in self.out.read_bytes())
        if meanwhile:
            before = self.out.stat().st_size
            await eventually(lambda: self.out.stat().st_size > before)
            await meanwhile()
        for _ in range(4 if self._rounds > 1 else 0):
            await asyncio.sleep(self._chance.uniform(0, 0.02))
            self.truth.change(self._chance)
        self.truth.create(end)

    async def _obeyed(self, orders: Orders) -> int:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(msgspec.json.encode(orders) + b"\n")
        async with asyncio.timeout(RUN_SECONDS):
            return int(await self._server.stdout.readline())

    # -- verdicts ---------------------------------------------------------------------------------------

    def look(self, where: str, *, trimmed: bool = False) -> None:
        """What lies on disk after a crash: no place is ahead of what it stands for.

        `trimmed`: events that were delivered may be gone, to make room.
        """
        copy = self.folder / "copy"
        copy.mkdir(exist_ok=True)
        for name in ("journal.db", "journal.db-wal"):
            (copy / name).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copy(self.folder / "state" / name, copy)
        with closing(sqlite3.connect(copy / "journal.db")) as db:
            store = Store(db)
            lines = dict(_lines(store))
            lane, position = store.lanes()["synced"], store.positions()[STREAM]
        delivered = set(self.out.read_bytes().splitlines())
        stored = {json.loads(line)["id"] for line in [*lines.values(), *delivered]}
        if not trimmed:
            assert delivered <= set(lines.values()), f"{where}: delivered before it was durable"
        passed = {line for place, line in lines.items() if place <= lane.cursor}
        assert passed <= delivered, f"{where}: the sink's place is ahead of the sink"
        upto = int(position.version or 0)
        seen = {event for event, version in self.truth.versions.items() if version <= upto}
        assert seen <= stored, f"{where}: the stream's place is ahead of the journal"

    def judge(self) -> int:
        """Nothing lost, nothing invented, in order, the same bytes; how many lines were repeats."""
        bytes_of: dict[str, bytes] = {}
        lines = self.out.read_bytes().splitlines()
        for line in lines:
            event = json.loads(line)
            assert bytes_of.setdefault(event["id"], line) == line, "a repeat with other bytes"
        told = [json.loads(line) for line in bytes_of.values()]
        assert not [event for event in told if event["type"].endswith("gap")]
        ids = [event["id"] for event in told if ".object." in event["type"]]
        assert set(ids) == set(self.truth.versions), "lost or invented"
        first = {event: place for place, event in enumerate(ids)}
        for events in self.truth.order.values():
            assert events == sorted(events, key=first.__getitem__), "out of order"
        _follow_each_other(event for event in told if ".object." in event["type"])
        return len(lines) - len(bytes_of)


def _follow_each_other(told: Iterable[dict[str, Any]]) -> None:
    """What an event says was before is what the one before it said."""
    states: dict[str, Any] = {}
    for event in told:
        data, before = event["data"], states.get(event["partitionkey"])
        assert data.get("previous") == before, f"{event['id']}: another state before"
        if before:
            assert apply_patch(before, data["patch"]) == data["object"]
        states[event["partitionkey"]] = data["object"]


def _lines(store: Store) -> Iterable[tuple[int, bytes]]:
    """Every stored event with its position."""
    after = 0
    while chunks := store.read(after):
        for chunk in chunks:
            yield from enumerate(chunk.lines, start=chunk.last - len(chunk.lines) + 1)
        after = chunks[-1].last


@asynccontextmanager
async def rig(folder: Path, chance: random.Random) -> AsyncIterator[Rig]:
    errors = (folder / "children.log").open("wb")
    # To read the system's certificates takes longer than all the rest.
    environment = {**os.environ, "SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.crashing_exporter", stdin=PIPE, stdout=PIPE, stderr=errors,
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        async with FakeCluster() as fake:
            yield Rig(folder, fake, server, chance)
    finally:
        errors.close()
        assert server.stdin
        server.stdin.close()
        try:
            async with asyncio.timeout(RUN_SECONDS):
                await server.wait()
        except TimeoutError:
            os.killpg(server.pid, signal.SIGKILL)  # with the child that did not end
            await server.wait()


def points(visits: dict[str, int], chance: random.Random) -> list[str]:
    """Every line that was visited, once or at three of its visits, shuffled."""
    found = []
    for place, count in visits.items():
        chosen = {1, count // 2 + 1, count} if EVERY else {chance.randint(1, max(1, count * 2 // 3))}
        found += [f"{place}#{occurrence}" for occurrence in sorted(chosen)]
    chance.shuffle(found)
    return found


@pytest.mark.timeout(7200 if EVERY else SAMPLED_SECONDS * 2 + 100)
async def test_a_crash_at_any_statement_of_journal_and_delivery_loses_and_invents_nothing(
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("KEXPORT_SEED") or random.randrange(1 << 30))
    chance = random.Random(seed)
    async with rig(tmp_path, chance) as exporter:
        exporter.truth.create()
        await exporter.run()  # the first listing; from now on every version counts
        visits = await exporter.run(visited=tmp_path / "visited")
        chosen = points(visits, chance)
        started, done = time.monotonic(), 0
        for point in chosen:
            if not EVERY and time.monotonic() - started > SAMPLED_SECONDS:
                break
            await exporter.run(die_at=point)
            exporter.look(f"seed {seed}, {point}")
            done += 1
        await exporter.run()
        repeats = exporter.judge()
    print(
        f"\nseed {seed}: {len(visits)} lines, {len(chosen)} points, {done} tried, {exporter.died} crashes,"
        f" {len(exporter.truth.versions)} changes, {repeats} repeats, {time.monotonic() - started:.0f} s"
    )
    assert exporter.died >= done // 2
