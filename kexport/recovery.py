"""What happened in a gap, version by version, out of etcd's history.

A comparison knows two ends: what the index knew, and what a listing found. Between them a gap is read
stretch by stretch, the oldest first, since etcd forgets that first; what is read is put aside on disk.
What can't be had is left to the comparison, object by object. Each stretch may be told before the next is
read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Self

from kexport.change import GONE, Known, Origin, is_version, newer
from kexport.chapter import Chapter, Differing, Recovered
from kexport.diff import PORTION, Portion
from kexport.encoder import Encoder, now
from kexport.history import History, Step, UnreadableError
from kexport.kube import Client
from kexport.ledger import ledger_of
from kexport.places import Resync
from kexport.scan import Scan
from kexport.shape import Shaper
from kexport.snapshot import Snapshot, Staged
from kexport.staging import Staging
from kexport.telemetry import get_log
from kexport.walk import Walker

_log = get_log("recovery")
State = Mapping[str, Known]
READABLE = frozenset({"expired", "unreadable"})
"""Why a watch may have ended where lists still lead through the same history."""


class Recovery:
    """Fill it with `run`, and journal its `portions`, after which the index stands as `told` says."""

    def __init__(
        self, snapshot: Snapshot, known: dict[str, Known], resync: Resync, *, client: Client, shaper: Shaper
    ) -> None:
        self._snapshot = snapshot
        self._known = known
        self._resync = resync
        self._client = client
        self._shaper = shaper
        self._staging = Staging(Recovered, directory=snapshot.directory)
        self._refused: dict[str, UnreadableError] = {}
        self._why = ""
        self.requests = 0
        self.changes = 0
        self.told: dict[str, Known | None] = {}
        """The objects of which something is told, and what the index knows of them afterwards."""
        self.covered = snapshot.version == resync.upto
        """Whether each version is explained, and each object recovered: then nothing can be overlooked."""
        self.reached = ""
        """The version up to which history was read; "" before the first stretch."""
        self.unread = 0
        """Bytes of what was put aside and not taken out by `portions` yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._staging.close()

    @property
    def possible(self) -> bool:
        """Whether there is a history to read.

        Once a comparison's own changes are in the journal, what was before them must not follow any more.
        """
        return recoverable(self._resync) and newer(self._snapshot.version, begins(self._resync))

    @property
    def whole(self) -> set[str]:
        """The objects of which all is told, up to the listing."""
        return set(self.told) - set(self._refused)

    async def run(self, stretch_read: Callable[[], Awaitable[None]]) -> None:
        """Read back whatever can be had; what can't is left out of `told`, and is no failure.

        `stretch_read` comes after each stretch, and may journal the `portions` so far.
        """
        self._since, self._ends = int(self._resync.since), int(self._snapshot.version)
        stream, config = self._snapshot.stream, self._client.config
        self._history = history = History(stream, self._client)
        self._ledger = ledger_of(self._client)
        first = int(begins(self._resync))
        async with self._ledger.entered(stream.key):
            self._explained = await self._ledger.explained(history)
            self._scan = Scan(
                history, self._explained, length=self._ends - first,
                objects=max(self._snapshot.objects, len(self._known)), most=config.recover_scan_revisions,
            )  # fmt: skip
            await self._read(first, stretch_read)
        self.requests = history.requests
        _log.info(
            "history was read back", stream=stream.key, changes=self.changes,
            objects=len(self.whole), not_recovered=len(self._refused), requests=self.requests,
            seconds=round(history.seconds, 2), complete=self.covered,
            why=next((f"{key}: {error}" for key, error in self._refused.items()), self._why),
        )  # fmt: skip

    def portions(self, encoder: Encoder) -> Iterator[Portion]:
        """The changes in the order in which they happened, in portions that fit one commit; each once."""
        observed = now()
        changes = iter(self._staging)
        while some := list(islice(changes, PORTION)):
            events = [
                encoder.change(change, metadata, shaped, origin=Origin.RECOVERED, time=observed)
                for change, metadata, shaped in some
            ]
            index = {each.metadata.key: _known_after(each) for each in some}
            upto = some[-1].metadata.resourceVersion
            yield Portion(events, index, recovered=len(some), upto=upto)
        self._staging.clear()
        self.unread = 0

    # -- stretch by stretch -------------------------------------------------------------------------------

    async def _read(self, at: int, stretch_read: Callable[[], Awaitable[None]]) -> None:
        """All stretches from here to the end."""
        before, odd = await self._beginning(at)
        state: State = self._known  # what was there, as far as this recovery has read
        self.covered = True
        while at < self._ends:
            high = self._scan.until(at, self._ends)
            steps, after = await self._sampled(before, at, high)
            if after is None:
                high, objects = self._ends, self._unsampled(state, at, index=state is self._known)
            else:
                objects = self._sampled_objects(_following(odd, steps), last=high == self._ends)
            chapter = Chapter(
                at, high, state, history=self._history, scan=self._scan, ledger=self._ledger,
                walker=Walker(self._history, self._shaper, self._explained),
            )  # fmt: skip
            await chapter.run(objects)
            self._put_aside(chapter)
            self.covered = self.covered and chapter.complete and not self._refused
            odd, before, at = {}, after, high
            state, self.reached = after or {}, str(high)
            await stretch_read()

    async def _beginning(self, at: int) -> tuple[State | None, dict[str, list[Step]]]:
        """What was there as the gap began, and how that differs from the index after an earlier try."""
        if not self._scan.samples:
            return None, {}
        try:
            state = await self._history.everything(at)
        except UnreadableError as error:
            self._no_samples(error)
            return None, {}
        odd = {key for key, _ in state.items() ^ self._known.items()}
        return state, {key: [self._step(self._known.get(key), at, state.get(key))] for key in odd}

    async def _sampled(
        self, before: State | None, at: int, high: int
    ) -> tuple[dict[str, list[Step]], dict[str, Known] | None]:
        if before is None or self._history.exhausted:
            return {}, None
        try:
            return await self._scan.sample(dict(before), at, high)
        except UnreadableError as error:
            self._no_samples(error)
            return {}, None

    def _no_samples(self, error: UnreadableError) -> None:
        _log.info("no samples of the gap", stream=self._snapshot.stream.key, why=error)

    def _put_aside(self, chapter: Chapter) -> None:
        self._refused |= chapter.refused
        self._scan.refused |= set(chapter.refused)
        self._why = self._why or self._scan.error
        told = [each for each in chapter.changes if each.metadata.key not in self._refused]
        for each in told:
            self._staging.append(each, len(each.object))
            self.unread += len(each.object)
        self.changes += len(told)
        self.told |= {each.metadata.key: _known_after(each) for each in told}

    # -- which objects ------------------------------------------------------------------------------------

    def _step(self, known: Known | None, high: int, after: Known | None) -> Step:
        """From what the index knows to a later version."""
        low = max(self._since, int(known.version)) if known and is_version(known.version) else self._since
        return Step(low, known, high, after)

    def _sampled_objects(self, steps: dict[str, list[Step]], *, last: bool) -> Iterator[Differing]:
        """Those that samples saw change; of some the listing has the last state already."""
        if last:
            for staged in self._listed():
                if mine := steps.pop(staged.metadata.key, None):
                    yield Differing(staged.metadata.key, mine, staged)
        for key, mine in steps.items():
            if key not in self._refused:
                yield Differing(key, mine)

    def _unsampled(self, state: State, at: int, *, index: bool) -> Iterator[Differing]:
        """Those that the listing has otherwise; `index`: the state is the index, which may be older."""
        left = dict(state)

        def step(before: Known | None, after: Known | None) -> Step:
            return self._step(before, self._ends, after) if index else Step(at, before, self._ends, after)

        for staged in self._listed():
            key, after = staged.metadata.key, staged.metadata.known
            before = left.pop(key, None)
            if before != after:
                yield Differing(key, [step(before, after)], staged)
        for key, before in left.items():
            if (key in self._snapshot.missing or key not in self._known) and key not in self._refused:
                yield Differing(key, [step(before, None)])

    def _listed(self) -> Iterator[Staged]:
        for some in self._snapshot.differences():
            yield from (each for each in some if each.metadata.key not in self._refused)


def begins(resync: Resync) -> str:
    """The version up to which all is told."""
    return resync.upto or resync.since


def recoverable(resync: Resync) -> bool:
    """Whether what is missing may be read back from history."""
    inferred = resync.added + resync.modified + resync.deleted
    return resync.reason in READABLE and not inferred and is_version(resync.since)


def _known_after(change: Recovered) -> Known | None:
    return change.metadata.known if change.change not in GONE else None


def _following(first: dict[str, list[Step]], then: dict[str, list[Step]]) -> dict[str, list[Step]]:
    return {key: first.get(key, []) + then.get(key, []) for key in first | then}
