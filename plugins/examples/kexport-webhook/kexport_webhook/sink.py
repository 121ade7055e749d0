"""The sink: events in, every one of them taken by the endpoint, or known to be refused.

One request follows another, so an object's events stay in order. An endpoint that refuses a batch doesn't
say which event it means: halves are sent, and an event is held to be refused only when it was sent alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from typing_extensions import override

from kexport import ConfigError, Event, RejectedError, Sink, SinkContext, TransientError
from kexport_webhook.answer import Judge, MisconfiguredError, Verdict
from kexport_webhook.client import Client
from kexport_webhook.config import WebhookConfig, checked
from kexport_webhook.message import message, signature, spans

_LEAST_SECRET_CHARACTERS = 8


class WebhookSink(Sink):
    """Events as CloudEvents of the endpoint at `config.url`."""

    def __init__(self, config: WebhookConfig, context: SinkContext) -> None:
        place = f"sinks.{context.name}"
        endpoint = checked(config, place=place)
        self._place = place
        self._log = context.log
        self._shown = endpoint.shown
        self._mode = config.mode
        self._key = endpoint.signing_key
        self._max_request_events = config.max_request_events if config.mode == "batched" else 1
        self._max_request_bytes = config.max_request_bytes
        self._client = Client(config, endpoint, place=place)
        path = endpoint.url.path.strip("/")
        secret_path = path if len(path) >= _LEAST_SECRET_CHARACTERS else ""  # "hook" tells nothing
        secrets = [*config.headers.values(), config.signing_secret, secret_path, *endpoint.url.query.values()]
        self._judge = Judge(place=place, shown=endpoint.shown, secrets=secrets)
        self._taken: list[bytes] = []

    @override
    async def open(self) -> None:
        try:
            await self._client.open()
        except MisconfiguredError as error:
            raise ConfigError(str(error)) from error

    @override
    async def write(self, events: Sequence[Event]) -> None:
        written = self._resume(events)
        todo = deque((written + first, written + last) for first, last in self._spans(events[written:]))
        while todo:
            first, last = todo.popleft()
            try:
                verdict = await self._send(events[first:last])
            except TransientError as error:
                self._taken.clear()
                raise type(error)(str(error), written=first, retry_after=error.retry_after) from error
            if verdict.taken:
                self._taken += [event.encode() for event in events[first:last]]
            elif last - first > 1:
                middle = (first + last) // 2
                todo.extendleft([(middle, last), (first, middle)])
            else:
                self._taken.clear()
                raise RejectedError(verdict.message, written=first)
        self._taken.clear()

    @override
    async def close(self) -> None:
        await self._client.close()

    def _resume(self, events: Sequence[Event]) -> int:
        """How many of these events a cancelled write has already brought to the endpoint.

        The engine cancels a write that takes too long and writes the whole batch again: without this
        memory a slow endpoint would get the first events for ever.
        """
        count = 0
        for event, line in zip(events, self._taken, strict=False):
            if event.encode() != line:
                break
            count += 1
        del self._taken[count:]
        return count

    def _spans(self, events: Sequence[Event]) -> list[tuple[int, int]]:
        return list(spans(events, max_events=self._max_request_events, max_bytes=self._max_request_bytes))

    async def _send(self, events: Sequence[Event]) -> Verdict:
        try:
            headers, body = message(events, self._mode)
        except ValueError as error:  # msgspec's errors are ValueErrors
            return Verdict(taken=False, message=f"{self._place}: the event is no CloudEvent ({error})")
        if self._key:
            headers |= signature(self._key, events, body, now=time.time())
        verdict = self._judge.verdict(await self._client.send(headers, body))
        if verdict.too_large and len(events) > 1:
            # Half of what is too large: never below half of what the endpoint takes.
            self._max_request_bytes = min(self._max_request_bytes, len(body) // 2)
            self._log.warning(
                "endpoint finds a batch too large; smaller ones from now on, see max_request_bytes",
                endpoint=self._shown, bytes=len(body), max_request_bytes=self._max_request_bytes,
            )  # fmt: skip
        if verdict.taken or len(events) > 1:
            return verdict
        way_out = (
            "raise the endpoint's limit, or make the event smaller with a transform"
            if verdict.too_large
            else "see the endpoint's log for what it does not like"
        )
        return verdict._replace(message=f"{verdict.message} to this event alone: {way_out}")
