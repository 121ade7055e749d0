"""What a complete listing says against the index: inferred changes, in portions that fit one commit.

Compared by key *and* uid: an object that was deleted and made again under its name is two changes, not one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from kexport.change import ChangeType, Known, Origin
from kexport.encoder import Encoder, now
from kexport.event import Event
from kexport.places import Resync
from kexport.snapshot import Snapshot, Staged

PORTION = 500


class Portion(NamedTuple):
    """Some changes: their events, what they do to the index, and how many were inferred, of each kind.

    Of recovered ones: how many, and up to which version all are told.
    """

    events: list[Event]
    objects: dict[str, Known | None]
    added: int = 0
    modified: int = 0
    deleted: int = 0
    recovered: int = 0
    upto: str = ""

    def added_to(self, resync: Resync) -> Resync:
        return msgspec.structs.replace(
            resync,
            added=resync.added + self.added,
            modified=resync.modified + self.modified,
            deleted=resync.deleted + self.deleted,
            recovered=resync.recovered + self.recovered,
            upto=self.upto or resync.upto,
        )


def portions(snapshot: Snapshot, encoder: Encoder, *, first: bool) -> Iterator[Portion]:
    """Deletions first, as client-go has it, then what is new or newer; `first` = it is no comparison."""
    observed = now()
    origin = Origin.SNAPSHOT if first or snapshot.again else Origin.RESYNC
    missing = iter(sorted(snapshot.missing.items()))
    while some := list(islice(missing, PORTION)):
        yield _vanished(some, snapshot, encoder, observed)
    for listed in snapshot.differences():
        for start in range(0, len(listed), PORTION):
            yield _present(listed[start : start + PORTION], snapshot, encoder, origin, observed)


def _vanished(some: list[tuple[str, Known]], snapshot: Snapshot, encoder: Encoder, observed: str) -> Portion:
    change = snapshot.stream.gone
    events = [
        encoder.vanished(key, known, change=change, version=snapshot.version, time=observed)
        for key, known in some
    ]
    return Portion(events, {key: None for key, _ in some}, deleted=len(some))


def _present(
    some: list[Staged], snapshot: Snapshot, encoder: Encoder, origin: Origin, observed: str
) -> Portion:
    events: list[Event] = []
    index: dict[str, Known | None] = {}
    added = modified = deleted = 0
    for each in some:
        metadata = each.metadata
        same = each.before is not None and each.before.uid == metadata.uid
        if each.before and not same:
            events.append(
                encoder.vanished(
                    metadata.key,
                    each.before,
                    change=snapshot.stream.gone,
                    version=snapshot.version,
                    time=observed,
                )
            )
            deleted += 1
        change = ChangeType.MODIFIED if same and not snapshot.again else ChangeType.ADDED
        events.append(encoder.change(change, metadata, each.object, origin=origin, time=observed))
        index[metadata.key] = metadata.known
        if each.before != metadata.known:
            added, modified = added + (not same), modified + same
    return Portion(events, index, added, modified, deleted)
