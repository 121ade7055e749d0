"""A plugin for the tests of the command line: one sink type that does as its settings say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from typing_extensions import override

from kexport import (
    ConfigError,
    Event,
    RejectedError,
    Sink,
    SinkConfig,
    SinkContext,
    SinkType,
    TransientError,
    hookimpl,
)


class ProbeConfig(SinkConfig, frozen=True):
    path: Annotated[str, msgspec.Meta(min_length=1, description="File to append events to.")]
    mode: Annotated[
        Literal["well", "unreachable", "hanging", "choosy", "buggy", "stubborn"],
        msgspec.Meta(description="What goes wrong."),
    ] = "well"
    password: Annotated[str, msgspec.Meta(description="Shown by an error, to see it masked.")] = ""
    level: Annotated[int, msgspec.Meta(ge=0, le=9, description="A number with bounds.")] = 0
    refuse: Annotated[str, msgspec.Meta(description="Name of an object whose events it never accepts.")] = ""
    slow_seconds: Annotated[float, msgspec.Meta(ge=0, description="How long each event takes.")] = 0.0
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
            for number, event in enumerate(events):
                if self._config.refuse and event.attributes.objname == self._config.refuse:
                    raise RejectedError("too large", written=number)
                if self._config.slow_seconds:
                    await asyncio.sleep(self._config.slow_seconds)
                file.write(event.line + b"\n")
                file.flush()


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [SinkType("probe", ProbeConfig, ProbeSink)]
