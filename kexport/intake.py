"""Lines of a watch -> events, the index and the position, in the journal. Never waits.

Where objects expire (events), one transaction of etcd deletes many under one resourceVersion, and a watch
from that version would skip the rest of them. There the position stays before such a group until a later
version shows that it is whole; what of it is in the journal already is recognised by the index.
A change that a server repeats on the next connection is recognised by the last few that were taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from kexport.change import GONE, ChangeType, Known, Metadata, Origin, RawObject
from kexport.encoder import now
from kexport.errors import ApiError, ProtocolError
from kexport.event import Event
from kexport.lines import decode_bookmark, decode_line, decode_metadata
from kexport.parts import Parts
from kexport.places import Position
from kexport.trail import Told

RECENT = 256  # changes; a server that repeats more than that gets them told again, with the same ids
EXPIRING = frozenset({"events", "events.events.k8s.io"})
_CHANGES = {
    "ADDED": ChangeType.ADDED,
    "MODIFIED": ChangeType.MODIFIED,
    "DELETED": ChangeType.DELETED,
}


class Intake:
    """Takes the lines of one stream's watches, one watch after the other."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stream = parts.stream
        self._groups = parts.stream.resource.full_name in EXPIRING
        self._epoch = 0
        self._last = ""  # the newest version that was heard of
        self._floor = ""  # the newest one before it
        self._open_group = False  # `_last` deleted something, and may delete more
        self._told: dict[str, Known] | None = None  # the index, while what comes may be repeated
        self._recent: set[tuple[str, Metadata]] = set()
        self._before: set[tuple[str, Metadata]] = set()  # what was recent until there was too much of it
        self.bookmarked = False
        """Bookmarks are known to come, so that silence means a dead connection."""

    async def begin(self, position: Position) -> None:
        """A watch starts at this position."""
        if position.epoch != self._epoch:
            self._recent, self._before = set(), set()  # versions come a second time, for other content
        self._epoch = position.epoch
        self._last = self._floor = position.version
        self._open_group = position.held
        self._told = await self._parts.journal.known(self._stream.key) if position.held else None

    async def recall(self, lines: Iterable[bytes]) -> None:
        """Fetch what was told last of the objects that the lines are about; `take` must follow at once."""
        assert self._parts.trail
        keys = []
        try:
            for line in lines:
                item = decode_line(line)
                if item.type != "BOOKMARK":
                    keys.append(decode_metadata(item.object).key)
        except (ApiError, ProtocolError):
            pass  # `take` reads as far, too, and answers it
        await self._parts.trail.recall(keys)

    def take(self, lines: Iterable[bytes]) -> bool:
        """Journal what the lines say; whether they said anything.

        At a bad line (ApiError, ProtocolError) what came before it is kept and the rest is not read.
        """
        events: list[Event] = []
        index: dict[str, Known | None] = {}
        taken: set[tuple[str, Metadata]] = set()
        observed = now()
        version = ""
        try:
            for line in lines:
                item = decode_line(line)
                if item.type == "BOOKMARK":
                    version, _ = decode_bookmark(item.object)
                    self._note(version, deletes=False)
                    self.bookmarked = True
                    self._parts.stats.bookmark = time.monotonic()
                    continue
                metadata = decode_metadata(item.object)
                self._note(metadata.resourceVersion, deletes=item.type == "DELETED")
                said = (item.type, metadata)
                if self._stream.wants(metadata.namespace) and said not in taken and not self._repeated(said):
                    self._change(_CHANGES[item.type], metadata, item.object, observed, events, index)
                    taken.add(said)
                version = metadata.resourceVersion
        finally:
            if version:
                told = self._parts.trail.told(events, index) if self._parts.trail else Told(events)
                position = self._position(version)
                self._parts.journal.append(self._stream.key, told.events, index, position, told.states)
                self._remember(taken)  # not before: what a bug kept from the journal comes again, and is new
                stats = self._parts.stats
                stats.changes += len(told.events)
                stats.version, stats.heard, stats.error = version, time.monotonic(), ""
        return bool(version)

    def _change(
        self,
        change: ChangeType,
        metadata: Metadata,
        members: RawObject,
        observed: str,
        events: list[Event],
        index: dict[str, Known | None],
    ) -> None:
        gone = change in GONE
        if gone:
            change = self._stream.gone
        if not (gone and self._stream.deletions == "skip"):
            shaped = self._parts.shaper.shape(members)
            events.append(
                self._parts.encoder.change(change, metadata, shaped, origin=Origin.WATCH, time=observed)
            )
        index[metadata.key] = None if gone else metadata.known  # what a bug kept from the journal isn't known

    # -- what the journal has already ---------------------------------------------------------------------

    def _note(self, version: str, *, deletes: bool) -> None:
        if not self._groups:
            return
        if version != self._last:
            if self._last != self._floor:
                self._told = None  # the group that was cut is over
            self._floor, self._last, self._open_group = self._last, version, False
        self._open_group |= deletes

    def _remember(self, taken: set[tuple[str, Metadata]]) -> None:
        if len(self._recent) >= RECENT:
            self._before, self._recent = self._recent, set()
        self._recent |= taken

    def _repeated(self, said: tuple[str, Metadata]) -> bool:
        """Whether the journal has this already: just taken, or of a cut group and gone from the index."""
        if said in self._recent or said in self._before:
            return True
        return self._told is not None and self._told.pop(said[1].key, None) is None

    def _position(self, version: str) -> Position:
        if self._groups and self._open_group:
            return Position(version=self._floor, held=True, epoch=self._epoch)
        return Position(version=version, epoch=self._epoch)
