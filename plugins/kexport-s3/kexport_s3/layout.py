"""A batch of events -> the objects that hold them. Pure, and the same for the same events.

    prod/pods/dt=2026-11-23/hour=15/00000000000000000017-00000000000000000093-5f0c6d1e8a7b2c94.jsonl.zst

Two positions and a digest: names sort as the events came, and one name means one content. The digest is of
the events, not of the compressed bytes, which another version of zstd may pack in another way. So "there is
already an object of this name" always means "it has been stored", without asking for its content, which
would need permission to read. Positions alone would not do: they begin anew with a new journal, a batch
that is repeated after a restart may skip other events in between, and events that another sink rejected come
with positions of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from kexport import Event
from kexport_s3.config import Format
from kexport_s3.folder import Folders

DIGEST_LENGTH = 16


class Planned(NamedTuple):
    """One object; `start` is the place of its first event in the batch."""

    path: str
    start: int
    events: list[Event]


def plan(events: Sequence[Event], *, folders: Folders, ending: Format, stored: set[bytes]) -> list[Planned]:
    """The objects of these events without those whose line is `stored`; ordered by their first events."""
    groups: dict[str, tuple[int, list[Event]]] = {}
    for index, event in enumerate(events):
        if event.line not in stored:
            groups.setdefault(folders.folder(event), (index, []))[1].append(event)
    return [
        Planned(f"{folder}{_name(group)}.{ending}", start, group) for folder, (start, group) in groups.items()
    ]


def _name(events: Sequence[Event]) -> str:
    digest = hashlib.sha256()
    for event in events:
        digest.update(event.encode())
        digest.update(b"\n")
    first, last = events[0].position, events[-1].position
    return f"{first:020d}-{last:020d}-{digest.hexdigest()[:DIGEST_LENGTH]}"
