"""The Kafka client and its one thread: everything that touches the client happens there, one after another.

The event loop hands over a whole batch and is woken once, when the fate of all its records is known. A caller
that is cancelled leaves at once; the next one waits until the fate of what it left is known. That wait ends
with the client's message.timeout.ms at the latest, and it is better than a new client: the brokers refuse
late requests of a client that went on (its epoch), but not those of one that was thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from math import inf
from queue import Empty, SimpleQueue
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from kexport import Event, RejectedError, TransientError
from kexport_kafka.batch import Batch
from kexport_kafka.encode import Encoder, Record
from kexport_kafka.failure import (
    concerns_whole_request,
    failure,
    is_final,
    is_no_topic,
    opening_failure,
    raised,
    refused_by_client,
    sticks,
)
from kexport_kafka.properties import Value
from kexport_kafka.reports import Reports

T = TypeVar("T")

_IDLE_SECONDS = 0.5
_REACH_SECONDS = 10.0
_TOPIC_SECONDS = 3.0
_FLUSH_SECONDS = 0.5
_LATE_SECONDS = 10.0  # how much later than promised the client may tell a record's fate
_TIMEOUTS = ("message.timeout.ms", "delivery.timeout.ms")
_FIRST_EVENTS = 100  # what goes to a topic at first
_BATCH_BYTES = 1_000_000  # the client's own choice of "batch.size"


class Courier:
    """Brings batches to the brokers; `place` begins every message."""

    def __init__(
        self, properties: Mapping[str, Value], *, encoder: Encoder, place: str, reports: Reports
    ) -> None:
        self._properties = properties
        self._encoder = encoder
        self._place = place
        self._reports = reports
        self._producer: Producer | None = None
        # Half of what fills a request, so that there is one for each partition.
        wanted = str(properties.get("batch.size", ""))
        self._first_bytes = int(wanted if wanted.isdecimal() else _BATCH_BYTES) // 2
        # One setting under two names; 0 is no limit.
        limits = [int(properties[name]) for name in _TIMEOUTS if name in properties]
        self._patience = max(limits) / 1000 + _LATE_SECONDS if all(limits) else inf
        self._proven: set[str] = set()  # topics that have taken this client's records
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._ended: Future[None] | None = None

    async def reach(self, topic: str) -> None:
        """Prove that the brokers can be reached and let us in, and that `topic` is there (empty: any)."""
        await self._call(lambda: self._reach(topic))

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when every event is acknowledged; raises TransientError or RejectedError."""
        abandoned = threading.Event()
        try:
            await self._call(lambda: self._deliver(events, abandoned.is_set))
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def close(self) -> None:
        """End the client and its thread; what is not acknowledged by then stays unacknowledged."""
        if self._ended is not None:
            if not self._stopping.is_set():
                self._stopping.set()
                self._calls.put(None)
            await asyncio.shield(asyncio.wrap_future(self._ended))
            self._ended = None

    async def _call(self, call: Callable[[], T]) -> T:
        if self._stopping.is_set():
            await self.close()  # one that was cancelled
        if self._ended is None or self._ended.done():
            self._ended, self._calls = Future(), SimpleQueue()
            self._stopping.clear()
            # A daemon: a client that hangs must not keep a process alive whose journal has everything.
            threading.Thread(
                target=self._work, args=(self._ended,), name="kexport-kafka", daemon=True
            ).start()
        done: Future[T] = Future()

        def run() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(call())
                except BaseException as error:  # noqa: BLE001  (it belongs to the caller, not to this thread)
                    done.set_exception(error)

        self._calls.put(run)
        return await asyncio.wrap_future(done)

    # Below: the thread's side ---------------------------------------------------------------------------

    def _work(self, ended: Future[None]) -> None:
        try:
            while True:
                try:
                    call = self._calls.get(timeout=_IDLE_SECONDS)
                except Empty:
                    self._idle()
                    continue
                if call is None:
                    break
                call()
            self._discard(flush_seconds=_FLUSH_SECONDS)
        finally:
            ended.set_result(None)

    def _idle(self) -> None:
        """Take the client's reports, which it would heap up."""
        if self._producer is not None:
            try:
                self._producer.poll(0)
            except (KafkaException, SystemError):
                self._discard()  # a fatal error: the next batch gets a new client

    def _client(self) -> Producer:
        if self._producer is None:
            try:
                self._producer = Producer(
                    dict(self._properties), error_cb=self._reports.error, logger=self._reports
                )
            except KafkaException as error:
                raise refused_by_client(error, place=self._place) from error
        return self._producer

    def _reach(self, topic: str) -> None:
        producer = self._client()
        begin, missing = time.monotonic(), None
        self._reports.errors = []
        while error := _ask(producer, topic, seconds=min(max(1.0, time.monotonic() - begin), 2.0)):
            producer.poll(0)
            errors = [*self._reports.errors, error]
            # Without a topic from then on: a broker that was asked to make it may be silent meanwhile.
            missing = (missing or time.monotonic()) if is_no_topic(error) else None
            end = missing + _TOPIC_SECONDS if missing else begin + _REACH_SECONDS
            late = self._stopping.wait(0.1) or time.monotonic() > end
            if late or any(map(is_final, errors)):
                brokers = str(self._properties["bootstrap.servers"])
                raise opening_failure(errors, place=self._place, topic=topic, brokers=brokers)

    def _deliver(self, events: Sequence[Event], abandoned: Callable[[], bool]) -> None:
        self._reports.errors = []
        records, rejected = self._encoder.encode(events)
        batch, first = self._in_order(records, abandoned)
        if batch.failure and concerns_whole_request(batch.failure) and len(records) > 1:
            batch, first = self._one_by_one(records, first, abandoned)
        if first < len(records):
            raise self._failed(batch, first)
        if rejected is not None:
            raise RejectedError(f"{self._place}: {rejected}", written=first) from rejected

    def _in_order(
        self, records: Sequence[Sequence[Record]], abandoned: Callable[[], bool]
    ) -> tuple[Batch, int]:
        """All of it; at first a few at a time, until each topic has taken some.

        A broker that has just been given a topic refuses records, and of a new client's requests that are
        under way to it together it might take only the later ones. Gives what `_in_parts` does.
        """
        return self._in_parts(records, 0, lambda first: self._at_once(records, first), abandoned)

    def _at_once(self, records: Sequence[Sequence[Record]], first: int) -> int:
        """How many events from `first` on may go together."""
        if {record.topic for each in records for record in each} <= self._proven:
            return len(records) - first
        size = 0
        for count, each in enumerate(records[first : first + _FIRST_EVENTS]):
            size += sum(len(record.value or b"") for record in each)
            if size > self._first_bytes:
                return max(count, 1)
        return min(_FIRST_EVENTS, len(records) - first)

    def _one_by_one(
        self, records: Sequence[Sequence[Record]], first: int, abandoned: Callable[[], bool]
    ) -> tuple[Batch, int]:
        """Find out which event it is; gives what `_in_parts` does."""
        self._reports.warning(
            "brokers refuse a whole request, its events go one by one: lower properties.'batch.size'",
            kind="request refused",
        )
        return self._in_parts(records, first, lambda _first: 1, abandoned)

    def _in_parts(
        self,
        records: Sequence[Sequence[Record]],
        first: int,
        at_once: Callable[[int], int],
        abandoned: Callable[[], bool],
    ) -> tuple[Batch, int]:
        """Up to a failure; gives the last batch, and the number of the event that it ended before."""
        while True:
            count = at_once(first)
            batch = self._send(records[first : first + count], first, abandoned)
            first += batch.written
            if batch.written < count or first == len(records) or abandoned():
                return batch, first

    def _send(self, records: Sequence[Sequence[Record]], first: int, abandoned: Callable[[], bool]) -> Batch:
        batch = Batch(records)
        try:
            batch.send(
                self._client(), abandoned=abandoned, stopping=self._stopping.is_set, patience=self._patience
            )
        except (KafkaException, SystemError) as error:
            self._discard()
            found = raised(error)
            if found is None:
                raise
            written = first + batch.written
            raise failure(found, place=self._place, topic="", written=written) from error
        if batch.overdue or any(map(sticks, batch.failures.values())):
            self._discard()
        self._proven |= batch.topics
        return batch

    def _failed(self, batch: Batch, written: int) -> Exception:
        error = batch.failure
        if error is None:
            return TransientError(f"{self._place}: the write was broken off", written=written)
        heard = self._reports.errors
        return failure(
            error, place=self._place, topic=batch.topic(batch.written), written=written, heard=heard
        )

    def _discard(self, *, flush_seconds: float = 0.0) -> None:
        """End the client without waiting for brokers that may be away; its records count as not written."""
        producer, self._producer, self._proven = self._producer, None, set()
        if producer is None:
            return
        with contextlib.suppress(KafkaException, SystemError):
            if flush_seconds:
                producer.flush(flush_seconds)
        with contextlib.suppress(KafkaException, SystemError):
            producer.purge()
            producer.poll(0)
        with contextlib.suppress(KafkaException, SystemError):
            producer.close()


def _ask(producer: Producer, topic: str, *, seconds: float) -> KafkaError | None:
    """What is wrong with the brokers or the topic, if anything is.

    In short turns, as the client goes on trying with a wrong password until the time is up.
    """
    try:
        listing = producer.list_topics(topic or None, timeout=seconds)
    except KafkaException as error:
        return error.args[0]
    found = listing.topics[topic].error if topic else None
    return None if found is None or found.code() == KafkaError.LEADER_NOT_AVAILABLE else found
