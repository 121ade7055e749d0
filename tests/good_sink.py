"""A good sink on a store in memory, of which the bad ones are variations, and its contract."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

import pytest
from msgspec import Meta

from kexport import BatchConfig, Event, RejectedError, Sink, SinkConfig, SinkContext, SinkType
from kexport import TransientError as Transient
from kexport.testing import SinkContract, make_event

POISON = make_event(666, objname="poison")


class Store:
    """The destination: takes a line at a time, each after a turn of the loop; `up` or not."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.up = True

    async def ask(self) -> None:
        await asyncio.sleep(0)
        if not self.up:
            raise ConnectionError("connection refused")

    async def add(self, line: bytes) -> None:
        await self.ask()
        if b'"poison"' in line:
            raise ValueError("poison")
        self.lines.append(line)


STORES: dict[str, Store] = {}


class Config(SinkConfig, frozen=True):
    store: Annotated[str, Meta(description="Which store.")]
    api_token: Annotated[str, Meta(description="Shown to the store.")] = ""


class GoodSink(Sink):
    """Event by event, so that it always knows how many are stored."""

    def __init__(self, config: Config, context: SinkContext) -> None:
        self.config, self.log = config, context.log

    @property
    def store(self) -> Store:
        return STORES[self.config.store]

    async def open(self) -> None:
        try:
            await self.store.ask()
        except ConnectionError as error:
            raise Transient("the store is away") from error

    async def write(self, events: Sequence[Event]) -> None:
        for written, event in enumerate(events):
            try:
                await self.store.add(event.encode())
            except ConnectionError as error:
                raise Transient("the store is away", written=written) from error
            except ValueError as error:
                raise RejectedError("the store does not want it", written=written) from error


class GoodContract(SinkContract[Config]):
    """What every test class here shares: the store, read and stopped without the sink."""

    Subject: ClassVar[Any] = GoodSink
    breaks = ""
    longest_pause_seconds = 0.15
    patience_seconds = 5.0

    @property
    def sink_type(self) -> SinkType[Config]:  # type: ignore[override]
        return SinkType("memory", Config, self.Subject, batch=BatchConfig(max_events=100))

    @pytest.fixture
    def config(self, request: pytest.FixtureRequest) -> Iterator[Config]:
        name = request.node.nodeid
        STORES[name] = Store()
        yield Config(store=name)
        del STORES[name]

    async def stored(self, config: Config) -> list[str]:
        return [json.loads(line)["id"] for line in STORES[config.store].lines]

    async def records(self, config: Config) -> list[bytes]:
        return STORES[config.store].lines

    @asynccontextmanager
    async def outage(self, config: Config) -> AsyncIterator[None]:
        STORES[config.store].up = False
        try:
            yield
        finally:
            STORES[config.store].up = True

    def unacceptable(self) -> Event:
        return POISON


class TestGood(GoodContract):
    pass


class TestBare(SinkContract[Config]):
    """Gives no more than it must."""

    breaks = ""
    sink_type = SinkType("memory", Config, GoodSink)
    config = GoodContract.config
    stored = GoodContract.stored
