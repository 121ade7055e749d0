"""What happened in a gap, version by version, out of etcd's history.

A comparison knows two ends: what the index knew, and what a listing found. Between them `walk` reads each
object's versions back, and `scan` finds objects that nobody knew of. What can't be had is left to the
comparison, object by object. All is read before anything is told, in the versions' order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from kexport.change import GONE, ChangeType, Known, Metadata, Origin, is_version, newer
from kexport.diff import PORTION, Portion
from kexport.encoder import Encoder, now
from kexport.history import AT_ONCE, History, Step, UnreadableError
from kexport.kube import Client
from kexport.ledger import ledger_of
from kexport.places import Resync
from kexport.scan import Scan
from kexport.shape import Shaper
from kexport.snapshot import Snapshot, Staged
from kexport.telemetry import get_log
from kexport.timeline import Timeline
from kexport.walk import Moment, Walker, gone

_log = get_log("recovery")


class Recovered(NamedTuple):
    """One change that was read back, its object shaped."""

    change: ChangeType
    metadata: Metadata
    object: bytes


class _Object(NamedTuple):
    """One whose changes are wanted: what the index knew, what the listing found, what samples saw."""

    key: str
    known: Known | None
    staged: Staged | None
    steps: list[Step] | None


class Recovery:
    """Fill it with `run`, then journal `portions`; objects in `whole` need no comparison any more."""

    def __init__(
        self, snapshot: Snapshot, known: dict[str, Known], resync: Resync, *, client: Client, shaper: Shaper
    ) -> None:
        self._snapshot = snapshot
        self._known = known
        self._resync = resync
        self._client = client
        self._shaper = shaper
        self._history: History
        self._refused: dict[str, str] = {}
        self.requests = 0
        self.changes: list[Recovered] = []
        self.whole: set[str] = set()
        self.covered = snapshot.version == resync.upto
        """Whether each version is explained, and each object recovered: then nothing can be overlooked."""

    @property
    def possible(self) -> bool:
        """Whether there is a history to read.

        Once a comparison's own changes are in the journal, what was before them must not follow any more.
        """
        resync = self._resync
        inferred = resync.added + resync.modified + resync.deleted
        begins = resync.upto or resync.since
        return (
            resync.reason == "expired"
            and not inferred
            and is_version(resync.since)
            and newer(self._snapshot.version, begins)
        )

    async def run(self) -> None:
        """Read back whatever can be had. Never fails: what can't be had is not in `whole`."""
        self._since = int(self._resync.since)
        begins, ends = int(self._resync.upto or self._resync.since), int(self._snapshot.version)
        self._ends = ends
        stream, config = self._snapshot.stream, self._client.config
        self._history = History(stream, self._client)
        self._walker = Walker(self._history, self._shaper, selective=stream.selective)
        self._timeline = Timeline(self._known)
        objects = max(self._snapshot.objects, len(self._known))
        most = config.recover_scan_revisions
        self._scan = Scan(stream, self._history, begins=begins, ends=ends, objects=objects, most=most)
        ledger = ledger_of(self._client)
        async with ledger.entered(stream.key):
            await self._walk_all()
            await ledger.told(stream.key, self._history, self._timeline.explained)
            await self._look(most)
        self._tell()
        self.requests = self._history.requests
        _log.info(
            "history was read back", stream=stream.key, changes=len(self.changes),
            objects=len(self.whole), not_recovered=len(self._refused), requests=self.requests,
            seconds=round(self._history.seconds, 2), complete=self.covered,
            why=next(iter(self._refused.values()), self._scan.error),
        )  # fmt: skip

    def portions(self, encoder: Encoder) -> Iterator[Portion]:
        """The changes in the order in which they happened, in portions that fit one commit."""
        observed = now()
        for start in range(0, len(self.changes), PORTION):
            some = self.changes[start : start + PORTION]
            events = [
                encoder.change(change, metadata, shaped, origin=Origin.RECOVERED, time=observed)
                for change, metadata, shaped in some
            ]
            index = {each.metadata.key: None if each.change in GONE else each.metadata.known for each in some}
            upto = some[-1].metadata.resourceVersion
            yield Portion(events, index, recovered=len(some), upto=upto)

    # -- which objects ------------------------------------------------------------------------------------

    async def _walk_all(self) -> None:
        objects = self._differing(await self._samples())
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work(objects))
        for each in objects:  # the budget was used up before the last one
            self._refuse(each.key, UnreadableError("the budget is used up"))

    def _differing(self, sampled: dict[str, list[Step]]) -> Iterator[_Object]:
        for key, known in self._snapshot.missing.items():
            yield _Object(key, known, None, sampled.pop(key, None))
        for some in self._snapshot.differences():
            for staged in some:
                key = staged.metadata.key
                yield _Object(key, staged.before, staged, sampled.pop(key, None))
        for key, steps in sampled.items():  # it came and went: only samples know of it
            yield _Object(key, None, None, steps)

    async def _samples(self) -> dict[str, list[Step]]:
        try:
            found = await self._scan.samples()
        except UnreadableError as error:
            _log.info("no samples of the gap", stream=self._snapshot.stream.key, why=error)
            return {}
        if found is None:
            return {}
        start, steps = found
        # Where the index isn't what was there (an earlier try fell back), one walk from end to end tells all.
        odd = {key for key, _ in start.items() ^ self._known.items()}
        return {key: mine for key, mine in steps.items() if key not in odd}

    async def _look(self, most: int) -> None:
        """Ask for those whom nobody knows; then it is known whether anything can have been overlooked."""
        scan = self._scan
        scan.refused = set(self._refused)
        if most and not self._history.exhausted:
            await scan.run(self._timeline, self._walker)
        self.covered = scan.complete and not self._refused

    # -- one object ---------------------------------------------------------------------------------------

    async def _work(self, objects: Iterator[_Object]) -> None:
        """Take one object after the other, as long as something can be read."""
        while not self._history.exhausted and not self._walker.full:
            each = next(objects, None)
            if each is None:
                return
            moments: list[Moment] = []
            try:
                for step in self._steps(each):
                    moments += await self._walker.back(each.key, step, each.staged)
            except UnreadableError as error:
                self._walker.forget(moments)
                self._refuse(each.key, error)
            else:
                self._timeline.add(each.key, moments)
                self.whole.add(each.key)

    def _refuse(self, key: str, error: UnreadableError) -> None:
        self._refused[key] = f"{key}: {error}"

    def _steps(self, each: _Object) -> list[Step]:
        """What samples saw; without, one step from end to end."""
        known, after = each.known, each.staged.metadata.known if each.staged else None
        if each.steps:
            if each.steps[-1].after != after:
                raise UnreadableError("scan and listing disagree")
            return _joined(each.steps)
        if known and not is_version(known.version):
            raise UnreadableError("the known version is not comparable")
        low = max(self._since, int(known.version)) if known else self._since
        return [Step(low, known, self._ends, after)]

    # -- what to tell -------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """The changes of all objects, in the order in which they happened."""
        for key, moments in self._timeline.items():
            try:
                self.changes += self._changes(self._known.get(key), moments)
            except UnreadableError as error:
                self._refuse(key, error)
                self.whole.discard(key)
                self.covered = False
        self.changes.sort(key=lambda change: int(change.metadata.resourceVersion))

    def _changes(self, before: Known | None, moments: list[Moment]) -> list[Recovered]:
        """What a watch would have said of these moments, one after the other."""
        changes: list[Recovered] = []
        left = self._snapshot.stream.gone
        now_known, last = before, None
        for moment in moments:
            known = moment.known
            if known and moment.metadata and known != now_known:
                same = now_known is not None and now_known.uid == known.uid
                change = ChangeType.MODIFIED if same else ChangeType.ADDED
                changes.append(Recovered(change, moment.metadata, moment.object))
            elif now_known and not known:
                if last is None:
                    raise UnreadableError("what it was before it went is not to be had")
                changes.append(Recovered(left, *gone(last, moment.at)))
            now_known, last = known, moment if known else None
        return changes


def _joined(steps: list[Step]) -> list[Step]:
    """As few steps as there were lives: within one every step would read its own beginning once more."""
    joined: list[Step] = []
    for step in steps:
        last = joined[-1] if joined else step
        one_life = {known.uid for known in (last.before, last.after, step.after) if known}
        if joined and last.after and step.after and last.after == step.before and len(one_life) == 1:
            joined[-1] = Step(last.low, last.before, step.high, step.after)
        else:
            joined.append(step)
    return joined
