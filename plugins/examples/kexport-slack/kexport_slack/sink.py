"""The sink: a write is one message, acknowledged by Slack; more than one only where Slack refuses it.

A refused message is sent again in halves, until the change that Slack doesn't take stands alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from typing_extensions import override

from kexport import Event, RejectedError, Sink, SinkContext, TransientError
from kexport_slack.client import Client, Verdict
from kexport_slack.config import SlackConfig, checked
from kexport_slack.line import Line, line_of
from kexport_slack.memory import Draft, Memory
from kexport_slack.message import text_of


class SlackSink(Sink):
    """Messages to the channel of `config.webhook_url`."""

    def __init__(self, config: SlackConfig, context: SinkContext) -> None:
        place = f"sinks.{context.name}"
        url = checked(config, place=place)
        self._place = place
        self._cluster = context.cluster
        self._quiet = config.quiet
        self._max_lines = config.max_lines
        self._interval = config.min_interval_seconds
        self._client = Client(url, timeout_seconds=config.request_timeout_seconds, place=place)
        self._memory = Memory(config.remember_objects)
        self._next_message = 0.0

    @override
    async def write(self, events: Sequence[Event]) -> None:
        todo = deque([(0, len(events))])
        while todo:
            first, last = todo.popleft()
            try:
                verdict = await self._tell(events[first:last])
            except TransientError as error:
                raise TransientError(str(error), written=first, retry_after=error.retry_after) from error
            if verdict.taken:
                continue
            if last - first == 1:
                raise RejectedError(verdict.message, written=first)
            middle = (first + last) // 2
            todo.extendleft([(middle, last), (first, middle)])

    @override
    async def close(self) -> None:
        await self._client.close()

    async def _tell(self, events: Sequence[Event]) -> Verdict:
        """One message with what these events have to say; none if that is nothing."""
        draft = Draft(self._memory)
        lines: list[Line] = []
        try:
            for event in events:
                line = await self._line(event, draft)
                if line:
                    lines.append(line)
        except (ValueError, TypeError) as error:  # msgspec's errors are ValueErrors
            return Verdict(taken=False, message=f"{self._place}: the event is no CloudEvent ({error})")
        if lines:
            await self._pause()
            verdict = await self._client.post(
                text_of(lines, cluster=self._cluster, max_lines=self._max_lines)
            )
            if not verdict.taken:
                return verdict
        draft.arrived()
        return Verdict(taken=True)

    async def _line(self, event: Event, draft: Draft) -> Line | None:
        await asyncio.sleep(0)  # objects are parsed here: everybody else has a turn between two of them
        return line_of(event, draft, quiet=self._quiet)

    async def _pause(self) -> None:
        """Slack's limit of messages holds for those that failed, too."""
        await asyncio.sleep(max(0.0, self._next_message - time.monotonic()))
        self._next_message = time.monotonic() + self._interval
