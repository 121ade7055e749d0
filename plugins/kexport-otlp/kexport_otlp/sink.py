"""The sink: events in, every one of them acknowledged by the server, or known to be refused.

A server that rejects some records of a request says how many, not which. They are found by sending ever
smaller requests; a record is held to be refused only when it was sent alone. That repeats records, which is
what "at least once" allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from typing_extensions import override

from kexport import ConfigError, Event, RejectedError, Sink, SinkContext, TransientError
from kexport_otlp.client import make_client
from kexport_otlp.config import OtlpConfig, checked
from kexport_otlp.encode import encode
from kexport_otlp.ledger import Ledger, object_of
from kexport_otlp.request import frame, split
from kexport_otlp.verdict import MisconfiguredError, Outcome, Verdict, Voice

# So many writes in a row must end in the server's failure at one event before the event is to blame.
_WRITES_IN_DOUBT = 3
_MOST_OTHERS = 3


class _Item(NamedTuple):
    event: Event
    record: bytes


class OtlpSink(Sink):
    """Events as log records of the server at `config.endpoint`."""

    def __init__(self, config: OtlpConfig, context: SinkContext) -> None:
        self._place = f"sinks.{context.name}"
        endpoint = checked(config, place=self._place)
        self._log = context.log
        self._shown = endpoint.shown
        self._max_request_bytes = config.max_request_bytes
        self._frame = frame(config)
        secrets = [*config.headers.values(), *endpoint.url.query.values()]
        voice = Voice(place=self._place, shown=endpoint.shown, secrets=secrets)
        self._client = make_client(config, endpoint, voice=voice)
        self._protocol = "OTLP/gRPC" if config.protocol == "grpc" else "OTLP/HTTP"
        self._ledger = Ledger()
        self._items: list[_Item] = []
        self._taken: _Item | None = None

    @override
    async def open(self) -> None:
        try:
            await self._prove()
        except MisconfiguredError as error:
            raise ConfigError(str(error)) from error

    @override
    async def write(self, events: Sequence[Event]) -> None:
        self._ledger.begin(events)
        failure: TransientError | None = None
        try:
            await self._settle_all(events)
        except TransientError as error:
            failure = error
        written, refusal = self._ledger.progress(events)
        # What the engine hears of is its own to know; it may write it again for reasons of its own.
        self._ledger.begin(events[written + bool(refusal) :])
        if refusal:
            raise RejectedError(refusal, written=written) from failure
        if failure:
            raise TransientError(str(failure), written=written, retry_after=failure.retry_after) from failure
        if written < len(events):  # never seen; a return would say that all are durable
            raise RuntimeError(f"event {written} of {len(events)} was neither delivered nor refused")

    @override
    async def close(self) -> None:
        self._taken = None
        await self._client.close()

    async def _prove(self) -> None:
        """Send an empty request; raises TransientError unless the server takes it."""
        verdict = await self._client.export(b"")
        if verdict.outcome is Outcome.FAILED:
            raise TransientError(f"{verdict.message} to an empty request: see the server's log")
        if not verdict.taken:
            raise TransientError(
                f"{verdict.message} to an empty request: see whether endpoint is an {self._protocol} server,"
                " and whether it wants http or https"
            )

    async def _settle_all(self, events: Sequence[Event]) -> None:
        """Find out every event's fate, in order; stops early behind a request with a refused one."""
        pending = self._ledger.pending(events)
        items: list[_Item] = []
        for event, record in zip(pending, await asyncio.to_thread(_encode, pending), strict=True):
            if isinstance(record, bytes):
                items.append(_Item(event, record))
            else:
                reason = f"{self._place}: the event cannot be written as a log record ({record})"
                self._ledger.refused(event, reason=reason)
        self._items = items
        sizes = [len(item.record) for item in items]
        for first, last in split(sizes, max_bytes=self._max_request_bytes - self._frame.size):
            if self._ledger.progress(events).refusal:
                return  # the engine sets it aside before anything behind it is sent
            await self._settle(items[first:last])

    async def _settle(self, items: Sequence[_Item]) -> None:
        # A refused event may be held by the engine until somebody mends the server: order is kept for it.
        items = [item for item in items if self._ledger.may_go(item.event)]
        if not items:
            return
        verdict = await self._export(items)
        if verdict.taken:
            self._ledger.delivered([item.event for item in items])
            self._taken = items[-1]
        elif len(items) > 1:
            if verdict.outcome is Outcome.FAILED:
                await self._prove()  # a server that fails at nothing at all is spared the search
            middle = len(items) // 2
            await self._settle(items[:middle])
            await self._settle(items[middle:])
        elif verdict.outcome is Outcome.FAILED:
            await self._doubt(items[0], verdict)
        else:
            await self._refuse(items[0].event, verdict)

    async def _export(self, items: Sequence[_Item]) -> Verdict:
        request = await asyncio.to_thread(self._frame.around, [item.record for item in items])
        verdict = await self._client.export(request)
        if verdict.taken and verdict.message:
            self._log.warning("server took everything and warns", server=self._shown, warning=verdict.message)
        if verdict.outcome is Outcome.TOO_LARGE and len(items) > 1:
            # Half of what is too large: never below half of what the server takes.
            self._max_request_bytes = min(self._max_request_bytes, len(request) // 2)
            self._log.warning(
                "server finds a request too large; smaller ones from now on, see max_request_bytes",
                server=self._shown, bytes=len(request), max_request_bytes=self._max_request_bytes,
            )  # fmt: skip
        return verdict

    async def _doubt(self, item: _Item, verdict: Verdict) -> None:
        """The server failed at this event alone, which may be the event's fault or the server's.

        It is the event's when that happened in several writes, with the engine's waiting between them, and
        the server takes another event meanwhile. Raises TransientError until then.
        """
        if self._ledger.doubt(item.event) < _WRITES_IN_DOUBT:
            raise TransientError(f"{verdict.message} to this event alone: see the server's log")
        for other in self._others(item):
            if (await self._export([other])).taken:
                self._ledger.delivered([other.event])
                self._taken = other
                return await self._refuse(item.event, verdict)
        raise TransientError(
            f"{verdict.message} to this event alone, and has taken no other one since: see the server's log"
        )

    def _others(self, item: _Item) -> list[_Item]:
        """Events whose delivery shows that the server is well, and breaks no object's order.

        The last one that it took, which is then repeated; else the first ones of other objects.
        """
        if self._taken is not None:
            return [self._taken]
        first: dict[str, _Item] = {}
        for each in self._items:
            first.setdefault(object_of(each.event), each)
        first.pop(object_of(item.event), None)
        return [each for each in first.values() if self._ledger.may_go(each.event)][:_MOST_OTHERS]

    async def _refuse(self, event: Event, verdict: Verdict) -> None:
        """Note that this event, sent alone, was refused; a server that refuses everything proves nothing."""
        if verdict.outcome is Outcome.TOO_LARGE:
            way_out = "raise the server's limit, or make the event smaller with a transform"
        else:
            way_out = "see the server's log for what it does not like"
        if verdict.outcome is Outcome.REJECTED:
            said = verdict.message or "without a reason"
            reason = f"{self._place}: {self._shown} rejected the record ({said}): {way_out}"
        else:
            await self._prove()
            reason = f"{verdict.message} to this event alone: {way_out}"
        self._ledger.refused(event, reason=reason)


def _encode(events: Sequence[Event]) -> list[bytes | Exception]:
    """Each event's record, or why it can't be one; runs in a thread."""
    records: list[bytes | Exception] = []
    for event in events:
        try:
            records.append(encode(event))
        except (ValueError, TypeError) as error:
            records.append(error)
    return records
