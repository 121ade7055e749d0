"""The contract between the engine and a sink: all that a plugin's author has to know.

Returning from `write` means durable at the destination. Everything else (queueing, batching, retries,
timeouts, positions) the engine does, once, for every sink.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, NamedTuple, TypeVar

import msgspec
from typing_extensions import override

from kexport.event import Event
from kexport.telemetry import Log


class SinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a sink's settings; every field carries `Annotated[..., Meta(description=...)]`."""

    @override
    def __repr__(self) -> str:
        """Names without values: a setting may hold a password."""
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


class BatchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many events one `write` gets."""

    max_events: Annotated[int, msgspec.Meta(ge=1, description="Most events in one write.")] = 1000
    max_bytes: Annotated[
        int, msgspec.Meta(ge=1, description="Most bytes in one write; one larger event still goes, alone.")
    ] = 8_000_000
    max_wait_seconds: Annotated[
        float,
        msgspec.Meta(
            ge=0, le=3600, description="How long a write waits to be filled; 0 takes what is there."
        ),
    ] = 0.0


class SinkContext(NamedTuple):
    """What the engine tells a sink about itself."""

    name: str
    """The NAME in [sinks.NAME]."""
    cluster: str
    """The cluster's name, as in every event's `cluster` attribute."""
    log: Log
    """A logger already bound to the sink: `log.warning("broker went away", broker=address)`."""


class Sink(ABC):
    """Where events go. One call at a time; never two writes at once."""

    async def open(self) -> None:
        """Get ready. Raise ConfigError if it can never work, TransientError to be asked again."""

    @abstractmethod
    async def write(self, events: Sequence[Event]) -> None:
        """Store these events, in order, and return when every one is durable at the destination.

        Raise TransientError (the rest is written again) or RejectedError (event number `written` is set
        aside), both with `written` = how many events from the start are durable.
        """

    async def close(self) -> None:
        """Let go of everything; may be called twice, and after a failed `open`."""


C = TypeVar("C", bound=SinkConfig)


class SinkType(Generic[C]):
    """What a plugin registers: a name for `type = "…"`, its settings, how to build one, its usual batch.

    `build` is usually the sink class itself: it takes (settings, context) and does no I/O.
    """

    def __init__(
        self,
        name: str,
        config: type[C],
        build: Callable[[C, SinkContext], Sink],
        *,
        batch: BatchConfig | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.build = build
        self.batch = batch or BatchConfig()

    @override
    def __repr__(self) -> str:
        return f"SinkType({self.name!r}, {self.config.__name__})"
