"""The real engine in the test's own loop, with a sink that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from kexport import config as configuration
from kexport.engine import Engine
from kexport.event import Event
from kexport.sink import Sink, SinkConfig, SinkContext, SinkType

PATIENCE_SECONDS = 60.0


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
    """`async with Exporter(text, memory) as exporter`: an engine that runs until the block ends."""

    def __init__(self, text: str, memory: Memory, **types: SinkType[Any]) -> None:
        self.memory = memory
        self.engine = Engine(configuration.parse(text, {"memory": memory.type(), **types}))
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.engine.run(self._stop))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await self._task

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

    async def synced(self, streams: int = 1) -> None:
        await self.until(lambda events: sum(event.change == "synced" for event in events) >= streams)


def toml(
    directory: Path, cluster: dict[str, Any], resources: Sequence[dict[str, Any]], **journal: Any
) -> str:
    """A configuration with one memory sink; the journal is in `directory`."""
    document = {
        "cluster": {"name": "test", **cluster},
        "journal": {"path": str(directory / "state"), **journal},
        "resources": list(resources),
        "sinks": {"memory": {"type": "memory", "retry": {"min_seconds": 0.01, "max_seconds": 0.05}}},
    }
    return toml_of(document)


def toml_of(document: dict[str, Any]) -> str:
    """Tables and arrays of tables of plain values."""
    lines = []
    for name, table in document.items():
        tables = table if isinstance(table, list) else [table]
        head = f"[[{name}]]" if isinstance(table, list) else f"[{name}]"
        for each in tables:
            lines.append(head)
            lines += [f"{key} = {_value(value)}" for key, value in each.items()]
    return "\n".join(lines)


def _value(value: Any) -> str:
    """JSON's scalars are TOML's."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return msgspec.json.encode(value).decode()
