"""A trail's beginning in the middle of a stream: what each object is at the stream's place.

Diffs may be switched on for a stream that has been followed for long, or what was remembered may not count
any more. Then the objects are listed once, exactly at the version up to which all is told: nothing is told by
it, and the first change of each object has something to be compared with.
"""

from __future__ import annotations

from kexport import snapshot as snapshots
from kexport.errors import ApiError
from kexport.parts import Parts
from kexport.snapshot import Snapshot
from kexport.telemetry import get_log

_log = get_log("informer")


async def prime(parts: Parts, version: str) -> None:
    """Remember what is not remembered yet of the stream at this version, as far as the server still has it.

    Raises ApiError, ConnectionLostError and ProtocolError, but for a version that is out of its reach.
    """
    journal, key, trail = parts.journal, parts.stream.key, parts.trail
    assert trail
    known, there = await journal.known(key), await journal.last_states.keys(key)
    missing = known.keys() - there
    if not missing:
        return
    with Snapshot(parts.stream, parts.shaper, {}, directory=journal.directory) as snapshot:
        try:
            await snapshots.take(parts.client, snapshot, at=version)
        except ApiError as error:
            if not (error.expired or error.status in {400, 504}):
                raise
            _log.info("the first change of some objects will have no diff", stream=key, objects=len(missing))
            return
        for some in snapshot.differences():
            await journal.room()
            states = trail.prime(
                each
                for each in some
                if each.metadata.key in missing and known[each.metadata.key] == each.metadata.known
            )
            journal.append(key, (), {}, states=states)
    await journal.flush()
