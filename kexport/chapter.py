"""One stretch of a gap: what each object went through in it, from its beginning to its end.

First the versions of all objects that are known of, then the deletions, then whatever nobody knew of: each
step leaves fewer versions unexplained to the next one, in this stream and in all that share its etcd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from kexport.change import ChangeType, Known, Metadata
from kexport.history import AT_ONCE, History, Step, UnreadableError
from kexport.ledger import Done, Ledger
from kexport.scan import Scan
from kexport.snapshot import Staged
from kexport.timeline import Timeline
from kexport.walk import Moment, Walker, gone


class Recovered(NamedTuple):
    """One change that was read back, its object shaped."""

    change: ChangeType
    metadata: Metadata
    object: bytes


class Differing(NamedTuple):
    """An object that changes, its steps in order; the listing may have its last state already."""

    key: str
    steps: list[Step]
    staged: Staged | None = None


Work = Callable[[Differing], Awaitable[None]]


class Chapter:
    """Fill it with `run`; then `changes` has what is to be told."""

    def __init__(
        self, begins: int, ends: int, known: Mapping[str, Known], *,
        history: History, walker: Walker, scan: Scan, ledger: Ledger,
    ) -> None:  # fmt: skip
        self._begins, self._ends = begins, ends
        self._known = known
        self._history = history
        self._walker = walker
        self._scan = scan
        self._ledger = ledger
        self._timeline = Timeline(known)
        self._found: dict[str, list[Moment]] = {}
        self._later: list[Differing] = []
        self.refused: dict[str, UnreadableError] = {}
        self.changes: list[Recovered] = []
        self.complete = False
        """Every version of the stretch was looked at, or is explained."""

    async def run(self, objects: Iterable[Differing]) -> None:
        """Read back whatever can be had. What can't be had is in `refused`, and nothing of it is told."""
        await self._work(iter(objects), self._read)
        await self._reached(Done.VERSIONS)
        await self._work(iter(self._later), self._end)
        for key, moments in self._found.items():
            self._timeline.add(key, moments)
        await self._reached(Done.DELETIONS)
        self._scan.refused |= set(self.refused)
        self.complete = await self._scan.look(self._begins, self._ends, self._timeline, self._walker)
        self._tell()

    async def _reached(self, done: Done) -> None:
        await self._ledger.reached(self._history.stream.key, self._ends, done, self._history)

    # -- one object after the other -----------------------------------------------------------------------

    async def _work(self, objects: Iterator[Differing], work: Work) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._take(objects, work))
        for each in objects:  # nothing more can be read
            self._refuse(each.key, UnreadableError("the budget is used up"))

    async def _take(self, objects: Iterator[Differing], work: Work) -> None:
        while not self._history.exhausted and not self._walker.full:
            each = next(objects, None)
            if each is None:
                return
            try:
                await work(each)
            except UnreadableError as error:
                self._refuse(each.key, error)

    def _refuse(self, key: str, error: UnreadableError) -> None:
        self.refused[key] = error
        self._walker.forget(self._found.pop(key, []))

    async def _read(self, each: Differing) -> None:
        """The object's versions; where it went is for later."""
        later: list[Step] = []
        moments = self._found[each.key] = []
        for step in _joined(each.steps):
            moments += await self._walker.back(each.key, step, each.staged, later=later)
        if later:
            self._later.append(Differing(each.key, later))

    async def _end(self, each: Differing) -> None:
        """Where the object's lives ended, and what was before."""
        found = self._found[each.key]
        for step in each.steps:
            begins = next((moment for moment in found if step.before and moment.known == step.before), None)
            found += await self._walker.back(each.key, step, begins=begins)

    # -- what to tell -------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """The changes of all objects, in the order in which they happened."""
        for key, moments in self._timeline.items():
            try:
                self.changes += self._changes(self._known.get(key), moments)
            except UnreadableError as error:
                self.refused[key] = error
        self.changes.sort(key=lambda change: int(change.metadata.resourceVersion))

    def _changes(self, before: Known | None, moments: list[Moment]) -> list[Recovered]:
        """What a watch would have said of these moments, one after the other."""
        changes: list[Recovered] = []
        left = self._history.stream.gone
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
