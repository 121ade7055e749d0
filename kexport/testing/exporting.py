"""The real engine in the test's own loop, with a sink that remembers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from typing_extensions import override

from kexport import config as configuration
from kexport.config import Config
from kexport.engine import Engine
from kexport.event import Event
from kexport.sink import Sink, SinkConfig, SinkContext, SinkType

PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.01
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class MemoryConfig(SinkConfig, frozen=True):
    """The sink has no settings."""


class Memory:
    """Where the events of a memory sink end up; outlives the engine's runs."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches: list[int] = []
        self.fail: Callable[[Sequence[Event]], None] = lambda _events: None
        self._news = asyncio.Condition()

    def type(self, name: str = "memory") -> SinkType[MemoryConfig]:
        memory = self

        class MemorySink(Sink):
            def __init__(self, _config: MemoryConfig, context: SinkContext) -> None:
                self.context = context

            @override
            async def write(self, events: Sequence[Event]) -> None:
                memory.fail(events)
                await memory.take(events)

        return SinkType(name, MemoryConfig, MemorySink)

    async def take(self, events: Sequence[Event]) -> None:
        async with self._news:
            self.events.extend(events)
            self.batches.append(len(events))
            self._news.notify_all()

    async def until(
        self, condition: Callable[[list[Event]], bool], *, seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Wait for the condition on all events so far; fails with what there was instead."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: condition(self.events))
        except TimeoutError:
            raise AssertionError(f"waited {seconds} s; there was: {told(self.events)[-30:]}") from None


def told(events: Sequence[Event]) -> list[tuple[str, str, str]]:
    """Events in short: (change, subject, origin)."""
    return [(event.change, event.subject, event.attributes.origin) for event in events]


class Exporter:
    """`async with Exporter(text, memory) as exporter`: an engine that runs until the block ends.

    `text` is the configuration, or a function that gives it, called again at each reload.
    """

    def __init__(self, text: str | Callable[[], str], memory: Memory, **types: SinkType[Any]) -> None:
        self.memory = memory
        known = {"memory": memory.type(), **types}

        def load() -> Config:
            return configuration.parse(text if isinstance(text, str) else text(), known)

        self.engine = Engine(load(), load)
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.engine.run(self._stop))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; after an error in the block at once, without waiting for a sink that takes nothing."""
        self._stop.set()
        if kind is None:
            await self._task
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # looked at: the block's own error is told

    @property
    def events(self) -> list[Event]:
        return self.memory.events

    async def until(self, condition: Callable[[list[Event]], bool]) -> None:
        """As Memory.until, but ends at once when the engine does."""
        waiting = asyncio.create_task(self.memory.until(condition))
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await self._task
            raise AssertionError("the engine stopped")
        await waiting

    async def look(self, condition: Callable[[], bool], *, seconds: float, what: Callable[[], str]) -> None:
        """Wait for a condition on anything; fails with `what` there is instead, or with the engine."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._task.done():
                await self._task
                raise AssertionError("the engine stopped")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s; {what()}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def synced(self, streams: int = 1) -> None:
        await self.until(lambda events: sum(event.change == "synced" for event in events) >= streams)


def toml_of(document: Mapping[str, Any]) -> str:
    """TOML of values, tables and arrays of tables of plain values."""
    lines = [f"{_key(name)} = {_value(each)}" for name, each in document.items() if not _is_table(each)]
    for name, table in document.items():
        if not _is_table(table):
            continue
        tables = table if isinstance(table, list) else [table]
        head = f"[[{name}]]" if isinstance(table, list) else f"[{name}]"
        for each in tables:
            lines.append(head)
            lines += [f"{_key(key)} = {_value(value)}" for key, value in each.items()]
    return "\n".join(lines)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping | list)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    """JSON's scalars are TOML's."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return msgspec.json.encode(value).decode()
