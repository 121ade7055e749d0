"""Sinks that break one rule each, S1 to S5: building, opening, batches, durability, failures.

`test_contract.py` runs the contract on them in a pytest of its own and expects failures by the `breaks` rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from kexport import ConfigError, Event, RejectedError, SinkContext
from kexport import TransientError as Transient
from tests.good_sink import Config, GoodContract, GoodSink

# -- S1 to S3 -------------------------------------------------------------------------------------------


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


# -- S4 and S5 ------------------------------------------------------------------------------------------


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
