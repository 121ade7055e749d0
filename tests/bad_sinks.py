"""Sinks that break one rule each, on a store in memory; and a good one, of which they all are variations.

`test_contract.py` runs the contract on them in a pytest of its own and expects failures by the `breaks` rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from msgspec import Meta

from kexport import BatchConfig, ConfigError, Event, RejectedError, Sink, SinkConfig, SinkContext, SinkType
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


# -- S1 to S3 ---------------------------------------------------------------------------------------------


class TestReadsAFileInBuild(GoodContract):
    breaks = "s1"

    class Subject(GoodSink):
        def __init__(self, config: Config, context: SinkContext) -> None:
            super().__init__(config, context)
            Path("/etc/hostname").read_bytes()


class TestLeavesADescriptorInBuild(GoodContract):
    breaks = "s1"

    class Subject(GoodSink):
        def __init__(self, config: Config, context: SinkContext) -> None:
            super().__init__(config, context)
            self.pipe = list(os.pipe())

        async def close(self) -> None:
            while self.pipe:
                os.close(self.pipe.pop())


class TestGivesUpInAnOutage(GoodContract):
    breaks = "s2"

    class Subject(GoodSink):
        async def open(self) -> None:
            if not self.store.up:
                raise ConfigError("no such store")


class TestLeaksAForeignErrorFromOpen(GoodContract):
    breaks = "s2"

    class Subject(GoodSink):
        async def open(self) -> None:
            await self.store.ask()


class TestOpensAtTheFirstWrite(GoodContract):
    breaks = "s2"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            if len(events) == 2 and not self.store.lines:
                raise Transient("not connected yet")
            await super().write(events)


class TestEatsItsBatch(GoodContract):
    breaks = "s3"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            await super().write(list(events))
            if isinstance(events, list):
                events.clear()


class TestWantsAList(GoodContract):
    breaks = "s3"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            if isinstance(events, tuple):
                raise TypeError("wants a list")
            await super().write(events)


# -- S4 and S5 --------------------------------------------------------------------------------------------


class Buffering(GoodSink):
    """Collects, and stores when it is closed, or when an error would show that it does."""

    def __init__(self, config: Config, context: SinkContext) -> None:
        super().__init__(config, context)
        self.buffer: list[bytes] = []


class TestAcknowledgesFromABuffer(GoodContract):
    breaks = "s4"

    class Subject(Buffering):
        async def write(self, events: Sequence[Event]) -> None:
            if len(events) != 100:
                return await super().write(events)
            self.buffer += [event.encode() for event in events]
            return None

        async def close(self) -> None:
            while self.buffer:
                await self.store.add(self.buffer.pop(0))


class TestStoresInTheBackground(GoodContract):
    """Only a kill shows it: who asks the store a moment later finds everything."""

    breaks = "s4"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            if len(events) != 41:
                return await super().write(events)
            self.task = asyncio.create_task(super().write(events))
            return None


class TestDropsTheTail(GoodContract):
    """As with a bulk interface that takes 64 at a time."""

    breaks = "s4"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            await super().write(events[:64])


class TestSwallowsErrors(GoodContract):
    breaks = "s5"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            with contextlib.suppress(Transient):
                await super().write(events)


class TestLeaksAForeignError(GoodContract):
    breaks = "s5"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            try:
                await super().write(events)
            except Transient as error:
                raise ConnectionError("connection refused") from error


class TestLiesAboutThePrefix(GoodContract):
    breaks = "s5"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            try:
                await super().write(events)
            except Transient as error:
                raise Transient("lost", written=min(len(events), error.written + 1)) from error


class TestStatesAnImpossiblePrefix(GoodContract):
    breaks = "s5"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            try:
                await super().write(events)
            except Transient as error:
                raise Transient("lost", written=len(events) + 1) from error


class TestRejectsInAnOutage(GoodContract):
    breaks = "s5"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            try:
                await super().write(events)
            except Transient as error:
                raise RejectedError("no", written=error.written) from error


class TestRejectsTheWrongEvent(GoodContract):
    breaks = "s5"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            try:
                await super().write(events)
            except RejectedError as error:
                raise RejectedError("no", written=0) from error


class TestNeverRecovers(GoodContract):
    breaks = "s5"

    class Subject(GoodSink):
        broken = False

        async def write(self, events: Sequence[Event]) -> None:
            if self.broken:
                raise RuntimeError("the client is closed")
            try:
                await super().write(events)
            except Transient:
                self.broken = True
                raise

        async def open(self) -> None:
            self.broken = False
            await super().open()


# -- S6 to S8 ---------------------------------------------------------------------------------------------


class Stamped(Event):
    def __init__(self, event: Event, extra: bytes) -> None:
        super().__init__(event.line[:-1] + extra + b"}")


class TestChangesBytes(GoodContract):
    breaks = "s6"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            await super().write([Stamped(event, b',"stored":%d' % time.time_ns()) for event in events])


class TestMakesUpIds(GoodContract):
    breaks = "s6"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            known = set(self.store.lines)
            await super().write(
                [
                    make_event(int(e.attributes.resourceversion) + 5000) if e.line in known else e
                    for e in events
                ]
                if len(events) == 10
                else events
            )


class TestReorders(GoodContract):
    breaks = "s7"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            backwards = len(events) in {47, 69}
            await super().write(events[::-1] if backwards else events)


class TestTearsARecord(GoodContract):
    """Half a record, a moment, the other half."""

    breaks = "s8"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            await super().write(events)
            whole = self.store.lines[-1]
            self.store.lines[-1] = whole[:100]
            await asyncio.sleep(0)
            self.store.lines[-1] = whole


class TestBlocksTheLoop(GoodContract):
    breaks = "s8"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            await super().write(events)
            if len(events) == 100:
                time.sleep(0.2)


class TestCannotBeStopped(GoodContract):
    breaks = "s8"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            try:
                await super().write(events)
            except asyncio.CancelledError:
                raise Transient("interrupted") from None


# -- S9 and S10 -------------------------------------------------------------------------------------------


class TestClosesOnce(GoodContract):
    breaks = "s9"

    class Subject(GoodSink):
        closed = False

        async def close(self) -> None:
            if self.closed:
                raise RuntimeError("closed already")
            self.closed = True


class TestClosesOnlyWhatIsOpen(GoodContract):
    breaks = "s9"

    class Subject(GoodSink):
        async def open(self) -> None:
            await super().open()
            self.client = object()

        async def close(self) -> None:
            assert self.client


class TestLeavesATask(GoodContract):
    breaks = "s9"

    class Subject(GoodSink):
        async def open(self) -> None:
            await super().open()
            self.task = asyncio.create_task(asyncio.sleep(3600))


class TestTellsItsSecretInRepr(GoodContract):
    breaks = "s10"

    class Subject(GoodSink):
        def __repr__(self) -> str:
            return f"<Sink {self.config.api_token}>"


class TestTellsItsSecretInTheLog(GoodContract):
    breaks = "s10"

    class Subject(GoodSink):
        async def open(self) -> None:
            self.log.debug("connecting", headers={"authorization": self.config.api_token})
            await super().open()


class TestTellsItsSecretInAnError(GoodContract):
    breaks = "s10"

    class Subject(GoodSink):
        async def write(self, events: Sequence[Event]) -> None:
            try:
                await super().write(events)
            except Transient as error:
                raise Transient(f"token {self.config.api_token}: {error}", written=error.written) from error


class TestPrintsItsSecret(GoodContract):
    breaks = "s10"

    class Subject(GoodSink):
        async def open(self) -> None:
            print("token", self.config.api_token)
            logging.getLogger("client").info("quiet")


class _Open(Config, frozen=True, forbid_unknown_fields=False):
    pass


class TestAcceptsUnknownSettings(GoodContract):
    breaks = "s10"

    @property
    def sink_type(self) -> SinkType[Config]:  # type: ignore[override]
        return SinkType("memory", _Open, GoodSink)

    @pytest.fixture
    def config(self) -> Iterator[Config]:
        STORES["open"] = Store()
        yield _Open(store="open")
        del STORES["open"]


class _Mute(Config, frozen=True):
    speed: int = 1


class TestDescribesNothing(GoodContract):
    breaks = "s10"

    @property
    def sink_type(self) -> SinkType[Config]:  # type: ignore[override]
        return SinkType("memory", _Mute, GoodSink)


class _Grabbing(Config, frozen=True):
    retry: Annotated[int, Meta(description="How often.")] = 3


class TestTakesTheEnginesSettings(GoodContract):
    breaks = "s10"

    @property
    def sink_type(self) -> SinkType[Config]:  # type: ignore[override]
        return SinkType("memory", _Grabbing, GoodSink)
