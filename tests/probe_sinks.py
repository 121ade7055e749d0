"""A plugin for the tests of the command line: one sink type that does as its settings say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from typing_extensions import override

from kexport import ConfigError, Event, Sink, SinkConfig, SinkContext, SinkType, TransientError, hookimpl


class ProbeConfig(SinkConfig, frozen=True):
    path: Annotated[str, msgspec.Meta(min_length=1, description="File to append events to.")]
    mode: Annotated[
        Literal["well", "unreachable", "hanging", "choosy", "buggy", "stubborn"],
        msgspec.Meta(description="What goes wrong."),
    ] = "well"
    password: Annotated[str, msgspec.Meta(description="Shown by an error, to see it masked.")] = ""
    level: Annotated[int, msgspec.Meta(ge=0, le=9, description="A number with bounds.")] = 0
    topics: Annotated[tuple[str, ...], msgspec.Meta(max_length=2, description="A list of strings.")] = ()


class ProbeSink(Sink):
    def __init__(self, config: ProbeConfig, context: SinkContext) -> None:
        self._config = config

    @override
    async def open(self) -> None:
        match self._config.mode:
            case "unreachable":
                raise TransientError("no broker answers at 127.0.0.1:9; see bootstrap_servers")
            case "hanging":
                await asyncio.to_thread(threading.Event().wait)
            case "choosy":
                raise ConfigError(f"password {self._config.password} is refused; name another")
            case "buggy":
                raise ZeroDivisionError("a bug")

    @override
    async def write(self, events: Sequence[Event]) -> None:
        if self._config.mode == "stubborn":
            await asyncio.Event().wait()
        with Path(self._config.path).open("ab") as file:
            file.writelines(event.line + b"\n" for event in events)


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [SinkType("probe", ProbeConfig, ProbeSink)]
