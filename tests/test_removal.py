"""What proves that a resource is gone, and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from typing_extensions import override

from kexport.discovery import AGGREGATED
from kexport.kube import Client
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.failure import ApiFailure
from kexport.testing.faults import Fault, Reply
from tests.exporter import Exporter, Memory
from tests.objects import DEFINITIONS, WIDGETS, config, define, eventually, seen, widget

GROUP = "metrics.example.com"
GAUGES = f"gauges.{GROUP}"
LONG_SECONDS = 31.0  # more than an absence must last


class Clock:
    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("kexport.streams.monotonic", lambda: clock.now)
    return clock


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr("kexport.streams.SOON_SECONDS", 0.02)
    async with FakeCluster(fresh_wait_seconds=0.05) as cluster:
        yield cluster


class Starting(Fault):
    """An API server that does not know yet all that it will serve, for as many discoveries as `answers` has.

    An answer is the document that discovery gives, or the status of an error. `step` seconds are between two.
    """

    def __init__(
        self, answers: list[bytes | int], clock: Clock, *, step: float = 0, own: int = 404, definition: int
    ) -> None:
        self.over = False
        self._answers = answers
        self._clock = clock
        self._step = step
        self._own = own
        self._definition = definition
        self._asked = not own

    @override
    async def play(self, request: web.BaseRequest) -> web.StreamResponse | None:
        if self.over:
            return None
        if request.path == "/apis":
            return await self._discover(request)
        if request.path.endswith("/gauges") and self._own:
            self._asked = True
            raise ApiFailure(self._own, "ordered by the test")
        if request.path.endswith(GAUGES):
            raise ApiFailure(self._definition, "ordered by the test")
        return None

    async def _discover(self, request: web.BaseRequest) -> web.StreamResponse | None:
        if not self._asked:
            return None
        if not self._answers:
            self.over = True
            return None
        self._clock.now += self._step
        answer = self._answers.pop(0)
        if isinstance(answer, int):
            raise ApiFailure(answer, "ordered by the test")
        return await Reply(body=answer).play(request)


async def without(fake: FakeCluster, group: str) -> bytes:
    """What discovery would say if this group were not there."""
    client = Client(ClusterConfig(url=fake.url))
    await client.open()
    try:
        document = msgspec.json.decode(await client.get("/apis", accept=AGGREGATED))
    finally:
        await client.close()
    document["items"] = [each for each in document["items"] if each["metadata"]["name"] != group]
    return msgspec.json.encode(document)


def gauge(fake: FakeCluster, name: str) -> None:
    fake.create({"apiVersion": f"{GROUP}/v1", "kind": "Gauge", "metadata": {"name": name}})


LACKING = object()


@pytest.mark.parametrize(
    ("answers", "server"),
    [
        pytest.param([LACKING] * 3, {"definition": 404}, id="for a moment, and it never had a definition"),
        pytest.param(
            [LACKING] * 3, {"definition": 503, "step": LONG_SECONDS}, id="and the definition is an error"
        ),
        pytest.param(
            [LACKING, 503, LACKING], {"definition": 403, "step": LONG_SECONDS}, id="twice, an error between"
        ),
        pytest.param(
            [LACKING] * 3, {"definition": 404, "step": LONG_SECONDS, "own": 503}, id="and its address fails"
        ),
        pytest.param(
            [LACKING] * 3, {"definition": 404, "step": LONG_SECONDS, "own": 0}, id="and its watch goes on"
        ),
        pytest.param(
            [LACKING] * 3, {"definition": 403, "step": LONG_SECONDS, "own": 0}, id="hidden, but watched"
        ),
    ],
)
async def test_a_resource_is_not_gone_because_discovery_lacks_it(
    fake: FakeCluster, clock: Clock, tmp_path: Path, answers: list[Any], server: dict[str, Any]
) -> None:
    memory = Memory()
    fake.serve(f"{GROUP}/v1", "gauges", "Gauge", verbs=("list", "watch"), versioned=True)
    gauge(fake, "a")
    lacking = await without(fake, GROUP)
    starting = Starting([lacking if each is LACKING else each for each in answers], clock, **server)
    async with Exporter(config(fake, tmp_path, GAUGES), memory) as exporter:
        await exporter.synced()
        fake.script(starting, times=1_000_000, path_contains="/apis")
        if server.get("own", 404):
            fake.hang_up()
        await eventually(lambda: starting.over)
        gauge(fake, "b")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
    assert not {"deleted", "gap"} & {event.change for event in memory.events}


@pytest.mark.parametrize("hidden", [False, True])
async def test_objects_of_a_resource_that_is_lacking_for_long_are_told_as_deleted(
    fake: FakeCluster, clock: Clock, tmp_path: Path, hidden: bool
) -> None:
    memory = Memory()
    definition = define(fake, "v1")
    widget(fake, "a")
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await exporter.synced()
    fake.delete(definition)
    if hidden:
        fake.deny("get", DEFINITIONS)
    before = len(fake.requests)
    async with Exporter(config(fake, tmp_path), memory) as exporter:
        await eventually(lambda: sum(WIDGETS in path for _, path in fake.requests[before:]) > 2)
        assert ("deleted", "a") not in seen(memory)
        clock.now += LONG_SECONDS
        await exporter.until(lambda events: any(event.change == "gap" for event in events))
    assert seen(memory).count(("deleted", "a")) == 1
