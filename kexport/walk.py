"""One object's life in a gap: its versions, read back one by one from the end to what is known.

An object's newest version says when it was made, and a moment before stands the one before. A deletion is
found by halving, since a uid that is gone never comes back. Under a selector each version is looked at both
ways: as it was, and whether the server had it in the selection then; an object may leave and come back.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kexport.change import Known, Metadata
from kexport.explained import Explained
from kexport.history import History, Step, UnreadableError, Version
from kexport.shape import Shaper
from kexport.snapshot import Staged

MOST_BYTES = 64 << 20


class Moment(NamedTuple):
    """From version `at` on the object was this, shaped; without metadata: it was gone."""

    at: int
    metadata: Metadata | None = None
    object: bytes = b""
    selected: bool = False

    @property
    def known(self) -> Known | None:
        """What the stream had of it then."""
        return self.metadata.known if self.metadata and self.selected else None


class Walker:
    """Reads objects back, as long as what was read fits the memory set aside for it."""

    def __init__(self, history: History, shaper: Shaper, explained: Explained) -> None:
        self._history = history
        self._shaper = shaper
        self._explained = explained
        self._selective = history.stream.selective
        # Events expire by etcd's leases: one revision may take a thousand of them away (informer.md §1.8).
        self._alone = history.stream.resource.name != "events"
        self._bytes = 0
        self.full = False
        """Something did not fit: no more should be read."""

    async def back(
        self, key: str, step: Step, staged: Staged | None = None, *,
        later: list[Step] | None = None, begins: Moment | None = None,
    ) -> list[Moment]:  # fmt: skip
        """The moments of a step, newest first; the last may be what was known at its beginning.

        What lived between a deletion and the creation after it is not looked for: only a scan finds that.
        With `later` nor is a deletion: it is put there as a step of its own, since the fewer versions are
        unexplained, the sooner it is found. `begins`: what was known at its beginning, where that was read.
        Raises UnreadableError, and then nothing of the step counts.
        """
        moments: list[Moment] = []
        try:
            await self._walk(key, step, staged, moments, later, begins)
        except UnreadableError:
            self.forget(moments)
            raise
        self._explained.add(moment.at for moment in moments if self._alone or moment.metadata)
        return moments

    def forget(self, moments: list[Moment]) -> None:
        """These aren't kept after all."""
        self._bytes -= sum(len(moment.object) for moment in moments)

    async def _walk(
        self, key: str, step: Step, staged: Staged | None, moments: list[Moment],
        later: list[Step] | None, begins: Moment | None,
    ) -> None:  # fmt: skip
        before, at = step.before, step.high
        version, selected = await self._at_the_end(key, step, staged)
        while version or before:
            if version is None:
                assert before
                if later is not None:
                    later.append(Step(step.low, before, at, None))
                    return
                at = await self._deletion(key, before.uid, low=step.low, high=at)
                moments.append(Moment(at))
                if begins and self._nothing_between(begins.at, at):
                    return
                version, selected = await self._history.state(key, at - 1)
                if version is None:
                    raise UnreadableError("the history does not stand still")
            at = int(version.metadata.resourceVersion)
            if at <= step.low and version.metadata.known != before:
                if selected or before:
                    raise UnreadableError("index and history disagree")
                return  # it was there, unselected, as the step began
            moments.append(self._moment(at, version, staged, selected=selected))
            if self._reached(step, version.metadata, at, selected=selected):
                return
            at -= 1
            version, selected = await self._history.state(key, at)

    def _nothing_between(self, low: int, high: int) -> bool:
        """Whether all that was written between is something else."""
        return all(version in self._explained for version in range(low + 1, high))

    def _reached(self, step: Step, metadata: Metadata, at: int, *, selected: bool) -> bool:
        """Whether what was there a moment before is known already; leaving a selection needs its content."""
        before = step.before
        if before and metadata.known == before:
            return True
        return at - 1 == step.low and (before is None or (before.uid == metadata.uid and selected))

    async def _at_the_end(self, key: str, step: Step, staged: Staged | None) -> tuple[Version | None, bool]:
        """The object as the step ends; the listing has it already, unless the step ends before."""
        if step.after is None:
            # Under a selector it may be there all the same.
            return (await self._history.version(key, step.high) if self._selective else None), False
        if staged and step.after == staged.metadata.known:
            return Version(staged.metadata, {}), True
        version = await self._history.version(key, step.high)
        if not version or version.metadata.known != step.after:
            raise UnreadableError("scan and history disagree")
        return version, True

    async def _deletion(self, key: str, uid: str, *, low: int, high: int) -> int:
        """The first version at which this uid is gone.

        It exists at `low` and not at `high`, and never comes back, so halving finds the place. Versions that
        belong to another write need not be asked for: between the others nothing has changed.
        """
        explained = self._explained
        while True:
            while high > low and high in explained:
                high -= 1
            while low < high and low + 1 in explained:
                low += 1
            if high - low < 2:
                break
            middle = (low + high) // 2
            found = await self._history.version(key, middle)
            if found and found.metadata.uid == uid:
                low = middle
            else:
                high = middle
        if high == low:
            raise UnreadableError("no version is left at which it can have gone")
        return high

    def _moment(self, at: int, version: Version, staged: Staged | None, *, selected: bool) -> Moment:
        metadata = version.metadata
        if not selected:
            return Moment(at, metadata)
        listed = staged is not None and metadata == staged.metadata
        shaped = staged.object if staged and listed else self._shaper.shape(dict(version.members))
        if self._bytes + len(shaped) > MOST_BYTES:
            self.full = True
            raise UnreadableError("more was recovered than fits the memory set aside for it")
        self._bytes += len(shaped)
        return Moment(at, metadata, shaped, selected=True)


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def gone(moment: Moment, at: int) -> tuple[Metadata, bytes]:
    """What a watch's DELETED carries: the last state, under the version that took it away."""
    assert moment.metadata
    members = _members.decode(moment.object)
    if "metadata" in members:
        inner = _members.decode(members["metadata"])
        if "resourceVersion" in inner:
            inner["resourceVersion"] = msgspec.Raw(b'"%d"' % at)
        members["metadata"] = msgspec.Raw(msgspec.json.encode(inner))
    metadata = msgspec.structs.replace(moment.metadata, resourceVersion=str(at))
    return metadata, msgspec.json.encode(members)
