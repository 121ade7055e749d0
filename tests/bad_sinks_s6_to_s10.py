"""Sinks that break one rule each, S6 to S10: repeats, order, cancellation, closing, settings and secrets.

`test_contract.py` runs the contract on them in a pytest of its own and expects failures by the `breaks` rule.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import pytest
from msgspec import Meta

from kexport import Event, SinkType
from kexport import TransientError as Transient
from kexport.testing import make_event
from tests.good_sink import STORES, Config, GoodContract, GoodSink, Store

# -- S6 to S8 -------------------------------------------------------------------------------------------


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


# -- S9 and S10 -----------------------------------------------------------------------------------------


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
