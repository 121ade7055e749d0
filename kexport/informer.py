"""One stream: list, watch, resume, compare after a gap; Changes into the journal.

The position lives in the journal and nowhere else, so every step may fail, or the process end, at any
point: the next step starts from what is durable. A failed read says nothing about any object, and nothing is
concluded from it. The reader waits for memory and the local disk only, never for a sink.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from time import monotonic

from kexport.asked import Asked, Told
from kexport.auditing import Auditor
from kexport.backoff import Backoff
from kexport.change import newer
from kexport.cluster import Identity
from kexport.comparing import REQUESTED, ROLLBACK, Comparison, SetBackError
from kexport.errors import ApiError, ConnectionLostError, JournalError, NewClusterError, ProtocolError
from kexport.freshness import set_back_to
from kexport.intake import Intake
from kexport.kube import INACTIVITY_SECONDS
from kexport.parts import Parts
from kexport.places import Position, Resync
from kexport.priming import prime
from kexport.telemetry import get_log

SHORT_WATCH_SECONDS = 1.0
FORBIDDEN_SECONDS = 30.0
ANSWERED = frozenset({401, 403, 404, 429})  # besides 410, what no listing leads past
UNREADABLE_TIMES = 2  # how often a watch may say something unreadable at one place of the history
FAILING_TIMES = 10  # how often it may end with an internal error there: with the backoff, for two minutes
ROOM_SECONDS = 2.0  # how long a watch stays open, unread, while the disk is behind
_TOO_OLD = re.compile(r"too old resource version: \d+ \((\d+)\)")


class Informer:
    """Follows one stream for ever. `slots` bounds how many streams are listed at the same time.

    `missing` is called when the server does not know the resource: only discovery can say what that means.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        identity: Identity,
        slots: asyncio.Semaphore,
        missing: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._stream = parts.stream
        self._journal = parts.journal
        self._stats = parts.stats
        self._identity = identity
        self._slots = slots
        self._missing = missing
        self._comparison = Comparison(parts, slots)
        self._intake = Intake(parts)
        self._auditor = Auditor(parts, slots)
        self._asked = Asked()
        self._backoff = Backoff()
        self._log = get_log("informer", stream=self._stream.key)
        self._expired = False  # a 410 was met, and the second opinion is being asked for
        self._compared = ""  # where the comparison after a 410 ended, until the server says anything else
        self._stumbled = ("", 0)  # where in the history what the watch says broke it, and how often
        self._stuck = False
        self._primed = False  # diffs have something to compare with

    def snapshot(self) -> Told:
        """Tell all that exists once more, as soon as possible."""
        return self._asked.ask(interrupt=not self._position.held)

    async def run(self) -> None:
        """Follow the stream until cancelled; raises JournalError and NewClusterError, answers all else."""
        try:
            while True:
                if wait := await self._attempt():
                    await asyncio.sleep(wait)
        finally:
            self._asked.end()
            await self._auditor.end()

    async def _attempt(self) -> float:
        """One step, whatever comes of it; the seconds to wait before the next."""
        try:
            await self._journal.room()
            await self._step()
        except ApiError as error:
            return await self._answer(error)
        except (ConnectionLostError, ProtocolError) as error:
            return self._trouble("disconnected", error)
        except SetBackError as error:
            self._declare_rollback(str(error))
        except (JournalError, NewClusterError):
            raise
        except Exception as error:  # noqa: BLE001  (a bug must not end the stream: retried, loudly)
            self._log.exception("unexpected error in a stream; it is tried again", error)
            return self._trouble("failed", error)
        return 0.0

    async def _step(self) -> None:
        position = self._position
        self._parts.encoder.enter(position.epoch)
        # Who knows what the address leads to now, and whether the history that we know still holds?
        await self._identity.check()
        known, resync = position.version, position.resync
        if resync:
            # Nothing of a history that was found to be set back must be asked for again.
            known = "" if resync.reason == ROLLBACK else resync.reached
        if known and await self._is_set_back(known):
            return
        if resync or not known:
            await self._list(resync or Resync(reason="initial"), position.epoch)
        else:
            await self._go_on(position)

    async def _go_on(self, position: Position) -> None:
        if self._stuck:
            self._stuck = False
            self._log.error("the watch leads no further; the stream is compared", since=position.version)
            # Not journaled first: where the listing fails as well, the watch is tried again in turn.
            await self._list(Resync(reason="unreadable", since=position.version), position.epoch)
        elif self._asked.wanted and not position.held:
            # Listed exactly where the watch stands, so that it can go on from there as if nothing had been.
            self._asked.begin()
            self._compare(Resync(reason=REQUESTED, since=position.version, at=position.version))
        else:
            await self._watch(position)
            self._compared = ""

    async def _list(self, resync: Resync, epoch: int) -> None:
        objects = await self._comparison.run(resync, epoch=epoch)
        version = self._position.version
        # Where etcd was compacted it ends before the place that the server named, which is still to be tried.
        reached = resync.reason == "expired" and not newer(resync.at, version)
        self._compared = version if reached else ""
        if self._asked.begun:
            await self._journal.flush()
            self._asked.done(objects)

    @property
    def _position(self) -> Position:
        return self._journal.positions[self._stream.key]

    # -- answers to what goes wrong -----------------------------------------------------------------------

    async def _answer(self, error: ApiError) -> float:
        """Seconds to wait after the server said no."""
        if error.expired:
            return self._answer_expired(error)
        if error.status == 403:
            self._trouble("forbidden", error)
            return max(FORBIDDEN_SECONDS, error.retry_after or 0)
        if error.status == 404:
            self._missing()
        state = {401: "unauthorized", 404: "missing", 429: "throttled"}.get(error.status, "failing")
        return self._trouble(state, error)

    def _answer_expired(self, error: ApiError) -> float:
        """410: ask once more on a new connection, since another replica may remember; then compare."""
        position = self._position
        if position.resync:  # the version that was to be listed exactly went out of reach meanwhile
            return self._trouble("resyncing", error)
        if not self._expired:
            self._expired = True
            return 0.001
        self._expired = False
        found = _TOO_OLD.search(str(error))
        # A full watch cache drops its oldest change for each new one: where changes come faster than listings
        # are made, nobody reaches its beginning. From the newest version a watch has all of it before it.
        again = position.version == self._compared
        at = found[1] if found and not again else ""
        self._compare(Resync(reason="expired", since=position.version, at=at))
        return self._backoff.next() if again else 0.0

    def _compare(self, resync: Resync, *, epoch: int | None = None) -> None:
        """From now on, also after a crash, the stream is to be compared before it is watched."""
        tell = self._log.info if resync.reason == REQUESTED else self._log.warning
        tell("comparing", reason=resync.reason, since=resync.since, server_remembers=resync.at)
        epoch = self._position.epoch if epoch is None else epoch
        self._journal.append(self._stream.key, (), {}, Position(resync=resync, epoch=epoch))

    def _trouble(self, state: str, error: Exception) -> float:
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        wait = self._backoff.next(retry_after)
        self._compared = ""
        self._stats.state, self._stats.error = state, str(error)
        self._log.warning("stream interrupted", state=state, error=error, again_in_seconds=round(wait, 1))
        return wait

    async def _is_set_back(self, version: str) -> bool:
        newest = await set_back_to(self._parts.client, self._stream, version)
        if newest:
            self._declare_rollback(f"the server is at {newest} only")
        return bool(newest)

    def _declare_rollback(self, why: str) -> None:
        """What happened after some version is void, and versions come a second time: a new epoch."""
        position = self._position
        since = position.resync.reached if position.resync else position.version
        self._log.error("the server's history was set back", since=since, why=why)
        self._compare(Resync(reason=ROLLBACK, since=since), epoch=position.epoch + 1)

    # -- watching -----------------------------------------------------------------------------------------

    async def _watch(self, position: Position) -> None:
        query = {
            **self._stream.selectors, "resourceVersion": position.version, "allowWatchBookmarks": "true",
        }  # fmt: skip
        if self._parts.trail and not self._primed:
            async with self._slots:
                await prime(self._parts, position.version)
            self._primed = True
        await self._intake.begin(position)
        inactivity = INACTIVITY_SECONDS if self._intake.bookmarked else None
        watch = self._parts.client.watch(self._stream.path, query, inactivity_seconds=inactivity)
        async with self._asked.interrupting(), watch as batches:
            self._stats.watches, self._stats.watched = self._stats.watches + 1, monotonic()
            self._stats.state, self._stats.synced = "watching", True
            try:
                await self._read(batches)
            except (ApiError, ProtocolError) as error:
                self._stumble(error)
                raise
            finally:
                self._stats.watched = 0.0

    async def _read(self, batches: AsyncIterator[list[bytes]]) -> None:
        """Take what a watch says until it ends, or must."""
        started = monotonic()
        heard = False
        async for lines in batches:
            if self._parts.trail:
                await self._intake.recall(lines)
            if self._intake.take(lines):
                self._expired = False
                self._backoff.reset()  # what is cut after every line still gets on
            heard = True
            if self._asked.wanted and not self._position.held:
                return
            if self._journal.crowded and not await self._room_soon():
                self._stats.state = "paused"
                self._log.warning("watch closed until the journal has room")
                return
            if await self._auditor.differs(self._position):
                since = self._position.version
                self._compare(Resync(reason="audit", since=since, at=since))
                return
        if not heard and monotonic() - started < SHORT_WATCH_SECONDS:
            raise ConnectionLostError("the server closed the watch at once")

    def _stumble(self, error: ApiError | ProtocolError) -> None:
        """What a watch said broke it. At the same place again and again, only a listing leads past it."""
        if isinstance(error, ApiError) and (error.expired or error.status in ANSWERED):
            return
        place, times = self._stumbled
        times = times + 1 if place == self._position.version else 1
        self._stumbled = self._position.version, times
        most = FAILING_TIMES if isinstance(error, ApiError) else UNREADABLE_TIMES
        self._stuck = times >= most

    async def _room_soon(self) -> bool:
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await self._journal.room()
        except TimeoutError:
            return False
        return True
