"""What happened in a gap, version by version, out of etcd's history.

A comparison knows two ends: what the index knew, and what a listing found. Between them every change of an
object is read back. Its newest version says when it was made, and a moment before stands the one before; so
on back to the known one. A deletion is found by halving, since a uid that is gone never comes back. A scan
finds objects that nobody knows of: in a short gap it lists each version, in a long one samples. What can't be
had is left to the comparison, object by object. All is read before anything is told, in the versions' order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from kexport.change import ChangeType, Known, Metadata, Origin, RawObject, is_version, newer
from kexport.diff import PORTION, Portion
from kexport.encoder import Encoder, now
from kexport.history import AT_ONCE, History, Step, UnreadableError, Version
from kexport.kube import Client
from kexport.places import Resync
from kexport.shape import Shaper
from kexport.snapshot import Snapshot, Staged
from kexport.telemetry import get_log

MOST_BYTES = 64 << 20
SCAN_OBJECTS = 5_000  # in bigger streams a scan would cost the server and the memory here too much
SCAN_ITEMS = 200_000  # most objects over all lists of a scan
_log = get_log("recovery")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Recovered(NamedTuple):
    """One change that was read back, its object shaped."""

    change: ChangeType
    metadata: Metadata
    object: bytes


@dataclass
class _Object:
    """One whose changes are wanted: what the index knew, what the listing found, what a scan saw."""

    key: str
    known: Known | None
    staged: Staged | None
    steps: list[Step] | None
    told: list[Recovered] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(len(change.object) for change in self.told)


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
        self._bytes = 0
        self._full = False
        self._refusals: list[str] = []
        self.changes: list[Recovered] = []
        self.whole: set[str] = set()
        self.covered = snapshot.version == resync.upto
        """Whether each version was listed, and all of it recovered: then nothing can have been overlooked."""

    @property
    def requests(self) -> int:
        """How many requests `run` has made."""
        return self._history.requests

    @property
    def possible(self) -> bool:
        """Whether there is a history to read. Not with selectors: no list tells who left them, and when.

        Once a comparison's own changes are in the journal, what was before them must not follow any more.
        """
        resync = self._resync
        inferred = resync.added + resync.modified + resync.deleted
        begins = resync.upto or resync.since
        return (
            resync.reason == "expired"
            and not self._snapshot.stream.selective
            and not inferred
            and is_version(resync.since)
            and newer(self._snapshot.version, begins)
        )

    async def run(self) -> None:
        """Read back whatever can be had. Never fails: what can't be had is not in `whole`."""
        self._since = int(self._resync.since)
        self._begins = int(self._resync.upto or self._resync.since)
        self._ends = int(self._snapshot.version)
        self._history = History(self._snapshot.stream, self._client)
        objects = self._differing(await self._scan())
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work(objects))
        if any(True for _ in objects):  # the budget was used up before the last one
            self.covered = False
        self.changes.sort(key=lambda change: int(change.metadata.resourceVersion))
        _log.info(
            "history was read back", stream=self._snapshot.stream.key, changes=len(self.changes),
            objects=len(self.whole), not_recovered=len(self._refusals), requests=self._history.requests,
            seconds=round(self._history.seconds, 2), why=self._refusals[0] if self._refusals else "",
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
            index = {
                each.metadata.key: None if each.change is ChangeType.DELETED else each.metadata.known
                for each in some
            }
            upto = some[-1].metadata.resourceVersion
            yield Portion(events, index, recovered=len(some), upto=upto)

    # -- which objects ------------------------------------------------------------------------------------

    def _differing(self, scanned: dict[str, list[Step]]) -> Iterator[_Object]:
        for key, known in self._snapshot.missing.items():
            yield _Object(key, known, None, scanned.pop(key, None))
        for some in self._snapshot.differences():
            for staged in some:
                key = staged.metadata.key
                yield _Object(key, staged.before, staged, scanned.pop(key, None))
        for key, steps in scanned.items():  # it came and went: only the scan knows of it
            yield _Object(key, None, None, steps)

    async def _scan(self) -> dict[str, list[Step]]:
        """The steps of every object: all of them in a short gap, in a long one those that samples show."""
        config = self._client.config
        size = max(1, self._snapshot.objects, len(self._known))
        lists = min(config.recover_scan_revisions, config.recover_max_requests // 2, SCAN_ITEMS // size)
        if not lists or size > SCAN_OBJECTS:
            return {}
        every = math.ceil((self._ends - self._begins) / lists)
        try:
            start, steps = await self._history.steps(self._begins, self._ends, every=every)
        except UnreadableError as error:
            self._refusals.append(f"scan: {error}")
            return {}
        # Where the index isn't what was there (an earlier try fell back), one walk from end to end tells all.
        odd = {key for key, _ in start.items() ^ self._known.items()}
        self.covered = every == 1 and not odd
        return {key: mine for key, mine in steps.items() if key not in odd}

    # -- one object ---------------------------------------------------------------------------------------

    async def _work(self, objects: Iterator[_Object]) -> None:
        """Take one object after the other, as long as something can be read."""
        while not self._history.exhausted and not self._full:
            each = next(objects, None)
            if each is None:
                return
            try:
                for step in self._steps(each):
                    await self._walk(each, step)
            except UnreadableError as error:
                self._bytes -= each.bytes
                self._refusals.append(f"{each.key}: {error}")
                self.covered = False
            else:
                self.changes += each.told
                self.whole.add(each.key)

    def _steps(self, each: _Object) -> list[Step]:
        """What a scan saw; without, one step from end to end."""
        known, after = each.known, each.staged.metadata.known if each.staged else None
        if each.steps:
            if each.steps[-1].after != after:
                raise UnreadableError("scan and listing disagree")
            return each.steps
        if known and not is_version(known.version):
            raise UnreadableError("the known version is not comparable")
        low = max(self._since, int(known.version)) if known else self._since
        return [Step(low, known, self._ends, after)]

    async def _walk(self, each: _Object, step: Step) -> None:
        """From the end of a step back to its beginning, one version after the other.

        What lived between a deletion and the creation after it is not looked for: only a scan finds that.
        """
        known = step.before
        at, version = step.high, await self._at_the_end(each, step)
        while version or known:
            if version is None:
                assert known
                at, version = await self._deletion(each.key, known.uid, low=step.low, high=at)
                self._tell(each, ChangeType.DELETED, _gone(version, at))
            if version.metadata.known == known:
                return
            at = int(version.metadata.resourceVersion) - 1
            if at < step.low:
                raise UnreadableError("index and history disagree")
            if at == step.low and (not known or known.uid == version.metadata.uid):
                # What was there is known already.
                self._tell(each, ChangeType.MODIFIED if known else ChangeType.ADDED, version)
                return
            before = await self._history.version(each.key, at)
            same = before is not None and before.metadata.uid == version.metadata.uid
            self._tell(each, ChangeType.MODIFIED if same else ChangeType.ADDED, version)
            version = before

    async def _at_the_end(self, each: _Object, step: Step) -> Version | None:
        """The object as the step ends; the listing has it already, unless the step ends before."""
        if step.after is None:
            return None
        if each.staged and step.after == each.staged.metadata.known:
            return Version(each.staged.metadata, {})
        version = await self._history.version(each.key, step.high)
        if not version or version.metadata.known != step.after:
            raise UnreadableError("scan and history disagree")
        return version

    async def _deletion(self, key: str, uid: str, *, low: int, high: int) -> tuple[int, Version]:
        """The first version at which this uid is gone, and what it was just before.

        It exists at `low` and not at `high`, and never comes back, so halving finds the place.
        """
        last: Version | None = None
        while high - low > 1:
            middle = (low + high) // 2
            found = await self._history.version(key, middle)
            if found and found.metadata.uid == uid:
                low, last = middle, found
            else:
                high = middle
        last = last or await self._history.version(key, low)
        if not last or last.metadata.uid != uid:
            raise UnreadableError("index and history disagree")
        return high, last

    def _tell(self, each: _Object, change: ChangeType, version: Version) -> None:
        metadata, staged = version.metadata, each.staged
        listed = staged is not None and metadata == staged.metadata
        shaped = staged.object if staged and listed else self._shaper.shape(dict(version.members))
        each.told.append(Recovered(change, metadata, shaped))
        self._bytes += len(shaped)
        if self._bytes > MOST_BYTES:
            self._full = True
            raise UnreadableError("more was recovered than fits the memory set aside for it")


def _gone(version: Version, at: int) -> Version:
    """What a watch's DELETED carries: the last state, under the version that took it away."""
    members: RawObject = dict(version.members)
    inner = _members.decode(members["metadata"])
    inner["resourceVersion"] = msgspec.Raw(b'"%d"' % at)
    members["metadata"] = msgspec.Raw(msgspec.json.encode(inner))
    return Version(msgspec.structs.replace(version.metadata, resourceVersion=str(at)), members)
