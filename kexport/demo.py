"""The main job in half a minute, Python only: a small shop on an API server in this process, exported by a
real kexport process into a file, which is killed with SIGKILL in the middle and started again.

The verdict is computed: what a plain watch of the same API server saw, against what is in the file.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from kexport.errors import KexportError
from kexport.event import OBJECT, Event
from kexport.tail import line
from kexport.terminal import paint, takes_colour
from kexport.testing.cluster import FakeCluster

SHOPS = ("web", "cart", "search")
RESOURCES = {"pods": "/api/v1/pods", "deployments.apps": "/apis/apps/v1/deployments"}
ROUNDS = 60
KILL_AT = (0.35, 0.65)  # parts of the rounds
ARRIVE_SECONDS = 20.0


class Shop:
    """Deployments that roll, scale and fail, as a cluster's own controllers would have it."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._random = random.Random(7)
        self._pods: dict[str, list[str]] = {name: [] for name in SHOPS}
        self._made = 0

    def open(self) -> None:
        self._cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        for name in SHOPS:
            self._cluster.create(
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": name, "namespace": "shop"},
                    "spec": {
                        "replicas": 2,
                        "selector": {"matchLabels": {"app": name}},
                        "template": {
                            "metadata": {"labels": {"app": name}},
                            "spec": {"containers": [{"name": name, "image": f"shop/{name}:1"}]},
                        },
                    },
                }
            )
            self._scale(name, 2)

    def step(self) -> None:
        """One thing that happens in a shop."""
        name = self._random.choice(SHOPS)
        what = self._random.choices([self._roll, self._resize, self._fail], weights=[2, 3, 3])[0]
        what(name)

    def _roll(self, name: str) -> None:
        image = f"shop/{name}:{self._random.randrange(2, 99)}"
        containers = [{"name": name, "image": image}]
        self._deployment(name, {"spec": {"template": {"spec": {"containers": containers}}}})
        for _ in list(self._pods[name]):
            self._start(name)
            self._stop(name)

    def _resize(self, name: str) -> None:
        replicas = self._random.randrange(1, 5)
        self._deployment(name, {"spec": {"replicas": replicas}})
        self._scale(name, replicas)

    def _fail(self, name: str) -> None:
        pod = self._random.choice(self._pods[name])
        waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "name": name, "restartCount": 1}
        self._pod(pod, {"phase": "Failed", "containerStatuses": [waiting]})
        self._pod(pod, {"phase": "Running", "containerStatuses": None})

    def _scale(self, name: str, replicas: int) -> None:
        while len(self._pods[name]) < replicas:
            self._start(name)
        while len(self._pods[name]) > replicas:
            self._stop(name)
        self._deployment(name, {"status": {"replicas": replicas, "readyReplicas": replicas}})

    def _start(self, name: str) -> None:
        self._made += 1
        pod = f"{name}-{self._made:04d}"
        self._cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": pod, "namespace": "shop", "labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": f"shop/{name}:1"}], "nodeName": "node-1"},
                "status": {"phase": "Pending"},
            }
        )
        self._pods[name].append(pod)
        self._pod(pod, {"phase": "Running"})

    def _stop(self, name: str) -> None:
        self._cluster.delete("pods", "shop", self._pods[name].pop(0))

    def _deployment(self, name: str, patch: dict[str, Any]) -> None:
        self._cluster.patch("deployments.apps", "shop", name, patch)

    def _pod(self, name: str, status: dict[str, Any]) -> None:
        self._cluster.patch("pods", "shop", name, {"status": status})


class Exporter:
    """`kexport run` in a process of its own."""

    def __init__(self, directory: Path, url: str) -> None:
        self.output = directory / "changes.jsonl"
        self.log = directory / "kexport.log"
        self._config = directory / "config.toml"
        resources = "".join(f'[[resources]]\nresource = "{name}"\n\n' for name in RESOURCES)
        self._config.write_text(
            f'[cluster]\nname = "demo"\nurl = "{url}"\n\n'
            f'[journal]\npath = "{directory / "state"}"\n\n{resources}'
            f'[http]\nlisten = ""\n\n[sinks.changes]\ntype = "file"\npath = "{self.output}"\n',
            encoding="utf-8",
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kexport", "run", "-c", str(self._config), stdout=log, stderr=log
            )

    async def end(self, sign: signal.Signals) -> int:
        """Send the signal and wait for the end: the exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(sign)
        return await self._process.wait()

    def events(self) -> list[Event]:
        """What is in the file, complete lines only."""
        if not self.output.exists():
            return []
        return [Event(each) for each in self.output.read_bytes().split(b"\n")[:-1]]


class Witness:
    """A plain watch of the same collections: what the API server said happened."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []  # (uid, resourceVersion)

    async def watch(self, url: str, path: str) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**21) as session:
            async with session.get(f"{url}{path}") as response:
                listing = await response.json()
            for item in listing["items"]:
                self._note(item["metadata"])
            version = listing["metadata"]["resourceVersion"]
            query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3000"}
            async with session.get(f"{url}{path}", params=query) as response:
                async for text in response.content:
                    self._note(json.loads(text)["object"]["metadata"])

    def _note(self, metadata: dict[str, Any]) -> None:
        self.seen.append((metadata["uid"], int(metadata["resourceVersion"])))


class Verdict(NamedTuple):
    """The file against the witness."""

    made: int
    delivered: int
    lost: int
    repeated: int
    out_of_order: int


def judge(seen: Sequence[tuple[str, int]], events: Sequence[Event]) -> Verdict:
    """Compare by uid and resourceVersion; an id that comes again is a repeat, and harmless."""
    ids: set[str] = set()
    delivered: set[tuple[str, int]] = set()
    newest: dict[str, int] = defaultdict(int)
    repeated = out_of_order = 0
    for event in events:
        if not event.type.startswith(OBJECT):
            continue
        if event.id in ids:
            repeated += 1
            continue
        ids.add(event.id)
        version = int(event.attributes.resourceversion)
        out_of_order += version < newest[event.key]
        newest[event.key] = max(newest[event.key], version)
        delivered.add((event.key, version))
    made = set(seen)
    return Verdict(len(made), len(delivered & made), len(made - delivered), repeated, out_of_order)


async def demo(directory: Path) -> int:
    """Run it; the exit code."""
    async with FakeCluster(heartbeat_seconds=1.0) as cluster:
        shop, exporter, witness = Shop(cluster), Exporter(directory, cluster.url), Witness()
        shop.open()
        watching = [asyncio.create_task(witness.watch(cluster.url, path)) for path in RESOURCES.values()]
        printing = asyncio.create_task(_print(exporter))
        _say(f"API server on {cluster.url}, kexport writes {exporter.output}")
        await exporter.start()
        try:
            await _synced(exporter)
            await _live(shop, exporter)
            verdict = await _arrive(witness, exporter)
            code = await exporter.end(signal.SIGTERM)
        finally:
            await exporter.end(signal.SIGKILL)
            for task in (*watching, printing):
                task.cancel()
            await asyncio.gather(*watching, printing, return_exceptions=True)
    _show(verdict, code, directory)
    return 1 if verdict.lost or verdict.out_of_order or code else 0


async def _synced(exporter: Exporter) -> None:
    """Wait for the first listings: what changed before them is nobody's to deliver."""
    deadline = time.monotonic() + ARRIVE_SECONDS
    while sum(event.change == "synced" for event in exporter.events()) < len(RESOURCES):
        if time.monotonic() > deadline:
            raise KexportError(f"kexport did not start within {ARRIVE_SECONDS:g} s; see {exporter.log}")
        await asyncio.sleep(0.1)


async def _live(shop: Shop, exporter: Exporter) -> None:
    """The shop goes on, whatever becomes of the exporter."""
    kills = [int(ROUNDS * part) for part in KILL_AT]
    for number in range(ROUNDS):
        if number in kills:
            await exporter.end(signal.SIGKILL)
            _say("kexport was killed (SIGKILL); the shop goes on without it")
        if number - 6 in kills:
            _say("kexport is started again")
            await exporter.start()
        shop.step()
        await asyncio.sleep(0.15)


async def _arrive(witness: Witness, exporter: Exporter) -> Verdict:
    """The verdict, once everything has arrived or long should have."""
    deadline = time.monotonic() + ARRIVE_SECONDS
    while True:
        verdict = judge(witness.seen, exporter.events())
        if not verdict.lost or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(0.2)


async def _print(exporter: Exporter) -> None:
    """Show the changes as they reach the file."""
    shown, coloured = 0, takes_colour(sys.stdout)
    while True:
        events = exporter.events()
        for event in events[shown:]:
            print(line(event, coloured=coloured), flush=True)
        shown = len(events)
        await asyncio.sleep(0.1)


def _say(sentence: str) -> None:
    print(paint(f"── {sentence}", "magenta", coloured=takes_colour(sys.stdout)), flush=True)


def _show(verdict: Verdict, code: int, directory: Path) -> None:
    _say(
        f"changes made {verdict.made}, delivered {verdict.delivered}, lost {verdict.lost},"
        f" repeated {verdict.repeated}, out of order {verdict.out_of_order}; kexport's exit code {code}"
    )
    lost = verdict.lost or verdict.out_of_order or code
    _say(f"see {directory}" if lost else "nothing was lost: two kills, every change in the file, in order")


def main() -> int:
    """Run the demo in a new directory; 1 if anything was lost."""
    return asyncio.run(demo(Path(tempfile.mkdtemp(prefix="kexport-demo-"))))
