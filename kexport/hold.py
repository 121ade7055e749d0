"""What a lane waits for after trouble, and what an operator may do about it: try now, or give events up.

An order is carried out by the lane itself, between two writes, so that nothing is given up that is on its
way. It names the event that the operator saw, and is refused where another one is in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from kexport.errors import ConfigError, KexportError
from kexport.event import Event
from kexport.telemetry import LaneStats, get_log
from kexport.waiting import wait_set

ORDER_SECONDS = 30.0  # how long an order waits for a write that is under way
Keep = Callable[[Sequence[Event], str], Awaitable[None]]


class NotHeldError(KexportError):
    """The lane is not where the operator thinks it is."""


class _Order(NamedTuple):
    event: str
    most: int
    keep: Keep | None
    done: asyncio.Future[list[Event] | KexportError]


class Hold:
    """One lane's; `moved` is told the position up to which everything is done."""

    def __init__(self, sink: str, stats: LaneStats, *, moved: Callable[[int], None]) -> None:
        self._sink = sink
        self._stats = stats
        self._moved = moved
        self._nudge = asyncio.Event()
        self._waiting = 0  # also by who stores something here that another sink rejected
        self._order: _Order | None = None

    # -- the lane's side ----------------------------------------------------------------------------------

    @property
    def ordered(self) -> bool:
        """Whether an operator wants events given up."""
        return self._order is not None

    async def pause(self, seconds: float) -> None:
        """So long, or until an operator says something."""
        self._waiting += 1
        try:
            await wait_set(self._nudge, seconds)
        finally:
            self._waiting -= 1
            self._nudge.clear()

    async def obey(self, batch: Sequence[Event]) -> Sequence[Event]:
        """Give up what is ordered, stored elsewhere before if that is wanted; what is left of the batch."""
        order, self._order = self._order, None
        if order is None:
            return batch
        done: list[Event] | KexportError = KexportError(f"sinks.{self._sink}: stopped; nothing was given up")
        try:
            _check(order, batch, self._sink)
            given_up = list(batch[: order.most])
            if order.keep:
                await order.keep(given_up, self._stats.error)
            self._moved(given_up[-1].position)
            self._count(given_up, kept=order.keep is not None)
            done = given_up
        except KexportError as error:
            done = error
        except Exception as error:  # noqa: BLE001  (an order must not end the lane)
            get_log("delivery", sink=self._sink).exception("unexpected error in an order", error)
            done = KexportError(f"sinks.{self._sink}: {type(error).__name__}; nothing was given up")
        finally:
            if not order.done.done():
                order.done.set_result(done)
        return batch[order.most :] if isinstance(done, list) else batch

    def _count(self, given_up: Sequence[Event], *, kept: bool) -> None:
        log = get_log("delivery", sink=self._sink)
        for event in given_up:
            if kept:
                log.warning("an event was parked by an operator", event=event.id, position=event.position)
            else:
                log.error(
                    "an event was skipped by an operator; this sink never gets it",
                    event=event.id, position=event.position, error=self._stats.error,
                )  # fmt: skip
        if kept:
            self._stats.parked += len(given_up)
        else:
            self._stats.skipped += len(given_up)

    def take(self, batch: Sequence[Event], state: str, error: Exception) -> None:
        """The lane is held at the first of these events, or at none: it can't be opened."""
        self._stats.state, self._stats.error = state, str(error)
        if batch:
            self._stats.held_at, self._stats.held_id = batch[0].position, batch[0].id

    def release(self) -> None:
        """The lane is held at nothing any more."""
        self._stats.held_at, self._stats.held_id = 0, ""
        self._stats.state, self._stats.error = "delivering", ""
        self._nudge.clear()
        order, self._order = self._order, None
        if order and not order.done.done():
            why = "the event was delivered meanwhile, or is to be repeated; nothing was given up"
            order.done.set_result(NotHeldError(f"sinks.{self._sink}: {why}"))

    # -- the operator's side ------------------------------------------------------------------------------

    def retry(self) -> None:
        """Try again now; raises NotHeldError where nothing waits."""
        if not self._waiting:
            raise NotHeldError(f"sinks.{self._sink}: does not wait, its state is {self._stats.state}")
        self._nudge.set()

    async def give_up(self, event: str, *, count: int, keep: Keep | None) -> list[Event]:
        """Go on behind the first `count` events, of which `event` (id or position) is the first.

        `keep` stores them before. Raises NotHeldError, ConfigError, and what `keep` raises.
        """
        if not self._stats.held_at:
            raise NotHeldError(
                f"sinks.{self._sink}: is held at no event, its state is {self._stats.state};"
                " nothing was given up"
            )
        if self._order:
            raise NotHeldError(f"sinks.{self._sink}: another order is under way; look again")
        order = self._order = _Order(event, count, keep, asyncio.get_running_loop().create_future())
        self._nudge.set()
        try:
            await asyncio.wait({order.done}, timeout=ORDER_SECONDS)
            if self._order is order:
                raise NotHeldError(
                    f"sinks.{self._sink}: a write has been under way for {ORDER_SECONDS:g} s;"
                    " nothing was given up, try again"
                )
            done = await order.done
        finally:
            if self._order is order:
                self._order = None
        if isinstance(done, KexportError):
            raise done
        return done


def _check(order: _Order, batch: Sequence[Event], sink: str) -> None:
    first = batch[0]
    if order.event not in {first.id, str(first.position)}:
        raise ConfigError(
            f"sinks.{sink}: is held at event {first.position}, {first.id}, not at {order.event};"
            " nothing was given up"
        )
    if order.most > len(batch):
        raise ConfigError(
            f"sinks.{sink}: writes {len(batch)} events now, from {first.position} on;"
            f" --count may be so many at most, and nothing was given up"
        )
