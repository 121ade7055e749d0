"""The records of one write, and what became of them.

The fate of every record is waited for before a write ends, with an error too. So nothing of a write can
arrive at a broker behind what the engine writes next, and a repeat never overtakes its original.

About the prefix: records of later events may be durable though an earlier one failed, as they go to other
partitions. Writing them again repeats them in order, with the same ids and bytes, which is what "at least
once" allows; a consumer that goes by `id` sees them once. What may not happen is an event that is missing
before one that was acknowledged, so `written` ends at the first event that is not durable.

Durable is what a broker has given an offset. librdkafka also takes a record for delivered when a later one of
its partition is ("implicitly acked"). That does not follow: a broker that knows nothing of a producer yet
begins with whatever sequence number it sees first, also when it refused the one before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from kexport_kafka.encode import Record

_POLL_SECONDS = 0.1
_POLL_EACH = 500
_UNPROVEN = KafkaError(
    KafkaError._FAIL,  # noqa: SLF001  (librdkafka's own codes begin with an underscore)
    "acknowledged without an offset, which proves nothing",
)


class Batch:
    """Bookkeeping; touched by the client's thread alone, so it needs no lock."""

    def __init__(self, events: Sequence[Sequence[Record]]) -> None:
        self._events = events
        self._unproven = bytearray(map(len, events))
        self._waiting = 0
        self.failures: dict[int, KafkaError] = {}
        self.overdue = False
        """Whether some fate is not known, though it should be: the client is of no more use."""

    @property
    def written(self) -> int:
        """How many events from the start are durable."""
        return next((index for index, records in enumerate(self._unproven) if records), len(self._unproven))

    @property
    def failure(self) -> KafkaError | None:
        """Why event number `written` is not durable, if a reason is known."""
        return self.failures.get(self.written)

    def topic(self, index: int) -> str:
        return self._events[index][0].topic if index < len(self._events) else ""

    @property
    def topics(self) -> set[str]:
        """Those of the events that are durable."""
        return {record.topic for records in self._events[: self.written] for record in records}

    def send(
        self,
        producer: Producer,
        *,
        abandoned: Callable[[], bool],
        stopping: Callable[[], bool],
        patience: float = inf,
    ) -> None:
        """Give everything to the client and wait for every fate; `abandoned` only ends the giving.

        So many seconds at most: a client that has lost its brokers may not keep its own limit.
        """
        for index, records in enumerate(self._events):
            if not self._produce(producer, index, records, stopping):
                break
            if index % _POLL_EACH == _POLL_EACH - 1:
                producer.poll(0)
                if self.failures or abandoned():
                    break
        late = time.monotonic() + patience
        while self._waiting and not stopping():
            producer.flush(_POLL_SECONDS)  # nothing more comes: what is there goes out without lingering
            if time.monotonic() > late:
                self.overdue = True
                break

    def _produce(
        self, producer: Producer, index: int, records: Sequence[Record], stopping: Callable[[], bool]
    ) -> bool:
        settle = partial(self._settle, index)
        for topic, key, value, headers in records:
            while True:
                try:
                    producer.produce(topic, value, key, headers=headers, on_delivery=settle)
                except BufferError:  # the client's buffer is full: delivery reports make room
                    producer.poll(_POLL_SECONDS)
                    if stopping():
                        return False
                except KafkaException as error:
                    producer.poll(0)  # after a fatal error this raises the reason, which `produce` leaves out
                    self.failures[index] = error.args[0]
                    return False
                else:
                    self._waiting += 1
                    break
        return True

    def _settle(self, index: int, error: KafkaError | None, message: Message) -> None:
        """One record's delivery report; must never raise, the client can't handle it."""
        self._waiting -= 1
        if error is None and message.offset() is not None:
            self._unproven[index] -= 1
        else:
            self.failures.setdefault(index, error or _UNPROVEN)
