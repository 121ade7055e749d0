"""Whether each stream has told all that exists, by what a sink holds."""

from __future__ import annotations

import json
from collections.abc import Iterable

Listing = tuple[str, str]
"""(stream, id of the event that closed it)"""


def listings(lines: Iterable[bytes]) -> frozenset[Listing]:
    """Those that are told to their ends; a sink may hold their last events more than once."""
    closing = (json.loads(line) for line in lines if b"io.kexport.stream.synced" in line)
    return frozenset((event["subject"], event["id"]) for event in closing)


def all_synced(lines: Iterable[bytes], streams: int, *, since: frozenset[Listing] = frozenset()) -> bool:
    """Whether each of so many streams has told one more than these; one of them may have told several."""
    return len({stream for stream, _ in listings(lines) - since}) == streams
