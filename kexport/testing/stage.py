"""What a sink's test gives to the contract, and how the contract's tests use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar

import pytest

from kexport.errors import SinkError
from kexport.event import Event
from kexport.sink import Sink, SinkConfig, SinkType
from kexport.testing import disclosure
from kexport.testing.events import make_event
from kexport.testing.rehearsal import check_count, make_context, missing, outcome

C = TypeVar("C", bound=SinkConfig)

_LARGE_BATCH = 2000


class Stage(ABC, Generic[C]):
    """Give `sink_type`, the fixture `config` and `stored`; the other methods as far as they apply."""

    sink_type: SinkType[C]
    patience_seconds: float = 30.0
    """How long one call to the sink may take, in an outage too."""
    longest_pause_seconds: float = 0.5
    """How long the event loop may stand still in a write."""
    outage_moments: Sequence[int] = (2, 6, 20)
    """How many steps of the loop a write has made when the destination fails; an outage each."""
    cancellations: int = 24
    """How many writes are cancelled, each a little later than the one before."""

    @pytest.fixture
    def config(self) -> C:
        """Settings for a destination that is fresh and belongs to this test alone."""
        pytest.fail(f"{type(self).__name__} needs a fixture `config`")

    @abstractmethod
    async def stored(self, config: C) -> Sequence[str]:
        """The ids of the events that the destination has, in its order, read without the sink."""

    async def records(self, config: C) -> Sequence[bytes]:  # noqa: ARG002
        """Optional: what the destination has of each event, in the order of `stored`."""
        pytest.skip("give `records` to see that an event written again has the same bytes")

    def outage(self, config: C) -> AbstractAsyncContextManager[None]:  # noqa: ARG002
        """Optional: the destination is down inside of the block."""
        pytest.skip("give `outage` to see what the sink does when its destination is down")

    def unacceptable(self) -> Event:
        """Optional: an event that the destination refuses for good."""
        pytest.skip("give `unacceptable` to see that one refused event does not hold up the others")

    def with_secrets(self, config: C, marker: str) -> C:
        """Optional: the settings with `marker` for each secret; by default by the settings' names."""
        return disclosure.with_secrets(config, marker)

    def event(self, number: int) -> Event:
        """Optional: the `number`-th event to write; the same bytes for the same number, ten keys in turn."""
        return make_event(number)

    # -- what the tests use -------------------------------------------------------------------------------

    def _events(self, first: int, last: int) -> list[Event]:
        return [self.event(number) for number in range(first, last + 1)]

    def _batches(self) -> list[list[Event]]:
        """One event, a few, and as many as one write may get."""
        most = min(self.sink_type.batch.max_events, _LARGE_BATCH)
        return [self._events(1, 1), self._events(2, 2 + min(6, most - 1)), self._events(101, 100 + most)]

    @asynccontextmanager
    async def _built(self, config: C) -> AsyncIterator[Sink]:
        sink = self.sink_type.build(config, make_context())
        try:
            yield sink
        finally:
            await self._do(sink.close(), "close")

    @asynccontextmanager
    async def _opened(self, config: C) -> AsyncIterator[Sink]:
        async with self._built(config) as sink:
            await self._do(sink.open(), "open")
            yield sink

    async def _outcome(self, awaitable: Awaitable[object], what: str) -> BaseException | None:
        return await outcome(awaitable, seconds=self.patience_seconds, what=what)

    async def _do(self, awaitable: Awaitable[object], what: str) -> None:
        failure = await self._outcome(awaitable, what)
        if failure is not None:
            raise failure

    async def _write(self, sink: Sink, events: Sequence[Event]) -> None:
        await self._do(sink.write(events), "write")

    async def _check_prefix(self, config: C, batch: Sequence[Event], failure: BaseException | None) -> None:
        """After this outcome of writing the batch, what counts as written is at the destination."""
        count = len(batch)
        if isinstance(failure, SinkError):
            check_count(failure, count)
            count = failure.written
        lost = missing(await self.stored(config), batch[:count])
        assert not lost, (
            f"S5: {count} of {len(batch)} count as written, but {len(lost)} of them are not stored"
        )
