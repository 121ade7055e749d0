"""What a running exporter does when its operator asks, over the control socket.

Looking is free. What changes something is durable before it is answered, and refused whole where it cannot be
done as asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from kexport import status
from kexport.delivery import Lane
from kexport.errors import ConfigError, KexportError
from kexport.event import Event
from kexport.lanes import Lanes
from kexport.parking import park
from kexport.replay import Replay
from kexport.request import AnyRequest, GiveUp, Retry, Snapshot, Status
from kexport.request import Replay as ReplayRequest
from kexport.streams import Streams
from kexport.view import View

SETTLE_SECONDS = 10.0
PARK_SECONDS = 20.0


class Steering:
    """`lanes` and `streams` give what runs now; None as long as the exporter has not come so far."""

    def __init__(
        self, view: View, *, lanes: Callable[[], Lanes | None], streams: Callable[[], Streams | None]
    ) -> None:
        self._view = view
        self._journal = view.journal
        self._lanes = lanes
        self._streams = streams

    async def answer(self, request: AnyRequest) -> dict[str, Any]:
        """Do what is asked; raises KexportError with the reason why not."""
        match request:
            case Status():
                return self._status(request)
            case Snapshot():
                return await self._snapshot(request)
            case ReplayRequest():
                return await self._replay(request)
            case Retry():
                self._lane(request.sink).hold.retry()
                return {}
            case GiveUp():
                return await self._give_up(request)

    def _status(self, request: Status) -> dict[str, Any]:
        answer = {"status": status.document(self._view)}
        return {**answer, "changes": status.changes(self._view)} if request.changes else answer

    async def _snapshot(self, request: Snapshot) -> dict[str, Any]:
        streams = self._streams()
        if streams is None:
            raise KexportError(
                "no stream is followed now: the API server has not answered yet, or kexport is stopping"
            )
        asked = streams.snapshot(request.resource, request.namespace)
        if not request.wait:
            return {"streams": list(asked), "objects": None}
        objects = 0
        for key, told in asked.items():
            await asyncio.wait({told})  # which must outlive a client that hangs up
            if isinstance(answer := told.result(), KexportError):
                raise KexportError(f"{key}: {answer}") from answer
            objects += answer
        return {"streams": list(asked), "objects": objects}

    async def _replay(self, request: ReplayRequest) -> dict[str, Any]:
        self._lane(request.sink)
        wanted = Replay(request.sequence, request.since, request.oldest)
        repeat = await self._journal.set_back(request.sink, wanted.begin)
        await self._settled()
        return {"events": repeat.events, "first": repeat.first}

    async def _give_up(self, request: GiveUp) -> dict[str, Any]:
        lane = self._lane(request.sink)
        where = ""

        async def keep(events: Sequence[Event], reason: str) -> None:
            nonlocal where
            reason = self._view.masked(reason)
            where = await self._keep([each.rejected(sink=lane.name, reason=reason) for each in events], to)

        to = self._lane(request.to) if request.to else None
        if to is lane:
            raise ConfigError(f"sinks.{lane.name}: cannot be the sink that keeps what it does not take")
        given_up = await lane.hold.give_up(
            request.event, count=request.count, keep=keep if request.park else None
        )
        await self._settled()
        events = [{"position": event.position, "id": event.id} for event in given_up]
        return {"events": events, "kept": where}

    async def _keep(self, events: list[Event], to: Lane | None) -> str:
        """Store them, durably; where they are then."""
        if to is None:
            directory = self._journal.directory
            assert directory  # where there is none, there is no socket either
            return str(await asyncio.to_thread(park, directory, events))
        try:
            async with asyncio.timeout(PARK_SECONDS):
                await to.take(events)
        except TimeoutError as error:
            raise KexportError(
                f"sinks.{to.name}: has not stored it within {PARK_SECONDS:g} s; nothing was given up"
            ) from error
        except Exception as error:  # whatever a plugin raises: unknown means not stored
            raise KexportError(
                f"sinks.{to.name}: cannot store it: {self._view.masked(str(error))}; nothing was given up"
            ) from error
        return f"sink {to.name}"

    async def _settled(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._journal.settle()
        except TimeoutError as error:
            raise KexportError(
                "done, but not durable yet, so that a crash would undo it: the journal cannot be written:"
                f" {self._journal.failing or 'the disk is slow'}"
            ) from error

    def _lane(self, name: str) -> Lane:
        lanes = self._lanes()
        if lanes is None:
            raise KexportError("no sink has begun: their routes wait for the API server")
        return lanes.find(name)
