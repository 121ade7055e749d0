"""The client's own reports in the sink's log: each kind at times, though it repeats them by the second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from confluent_kafka import KafkaError

from kexport import SinkContext


class Reports:
    """What the client says beside answers; `errors` are the last few, the owner empties them."""

    def __init__(
        self,
        context: SinkContext,
        *,
        every_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = context.log
        self._every_seconds = every_seconds
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}
        self.errors: list[KafkaError] = []

    def error(self, error: KafkaError) -> None:
        """The client's `error_cb`."""
        self.errors = [*self.errors[-9:], error]
        self.warning("kafka client reports trouble", kind=error.name(), error=error.str())

    def log(self, level: int, _form: str, facility: str, client: str, text: str, *_: object) -> None:
        """The client's `logger.log`; its errors are our warnings, as nothing is lost by them."""
        if level >= logging.WARNING:
            self.warning("kafka client logs", kind=facility, client=client, text=text)
        else:
            self._log.debug("kafka client logs", kind=facility, client=client, text=text)

    def warning(self, sentence: str, *, kind: str, **fields: object) -> None:
        """Log it, unless this kind was logged a moment ago; then it is counted."""
        now = self._clock()
        at, unsaid = self._said.get(kind, (-self._every_seconds, 0))
        if now - at < self._every_seconds:
            self._said[kind] = (at, unsaid + 1)
            return
        self._said[kind] = (now, 0)
        self._log.warning(sentence, kind=kind, repeats_not_shown=unsaid, **fields)
