"""The audit trail of one stream: each change with what the object was before, what changed, and who did it.

Works on events that are made already, before they are journaled: `data` gets `previous` and `patch` beside
`object`, the attributes `manager` and `managertime`; a deletion that was only inferred gets the state that
was told last. `previous` is the state of the event before, so that patches follow each other without a hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import zstandard

from kexport.change import GONE, Known, Origin, Stream
from kexport.event import OBJECT, Attributes, Event, splice
from kexport.managers import Managed, detach, latest
from kexport.patch import Operation, between, covered
from kexport.paths import parse_path
from kexport.places import State
from kexport.remembered import Remembered
from kexport.snapshot import Staged
from kexport.telemetry import StreamStats, get_log

# What changes by itself: each write has its resourceVersion, and a heartbeat says no more than that it came.
NOISE = (
    "metadata.resourceVersion",
    "status.conditions[*].lastHeartbeatTime",
    "status.conditions[*].lastProbeTime",
    "metadata.annotations['control-plane.alpha.kubernetes.io/leader']",
    "spec.renewTime",
)
_OPENING = b',"data":{"object":'
_log = get_log("informer")


class Told(NamedTuple):
    """The events as they are to be journaled, and what to remember with them."""

    events: Sequence[Event]
    states: Mapping[str, State | None] = {}


class Trail:
    """Of one stream; what it remembers is shared with the others."""

    def __init__(self, stream: Stream, remembered: Remembered, stats: StreamStats) -> None:
        self._stream = stream
        self._remembered = remembered
        self._stats = stats
        self._noise = [parse_path(path) for path in (*NOISE, *stream.ignore)]
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor()

    async def recall(self, keys: Iterable[str]) -> None:
        """Fetch what is known of these objects; `told` must follow without a pause."""
        await self._remembered.fetch(self._stream.key, keys)

    async def compare(self, events: Sequence[Event], objects: Mapping[str, Known | None]) -> Told:
        """Both at once."""
        await self.recall(objects)
        return self.told(events, objects)

    def told(self, events: Sequence[Event], objects: Mapping[str, Known | None]) -> Told:
        """Events with what was before; `objects` is what they do to the index, and covers all of them."""
        told: list[Event] = []
        states: dict[str, State | None] = {}
        for event in events:
            if event.type.startswith(OBJECT):
                told += self._tell(event, states)
            else:
                told.append(event)
        # Deletions that nobody wants to be told of count even so.
        states |= {key: None for key, known in objects.items() if known is None}
        for key, state in states.items():
            self._remembered.put(self._stream.key, key, state)
        return Told(told, states)

    def prime(self, staged: Iterable[Staged]) -> Mapping[str, State]:
        """Take these for told; what is to be remembered."""
        states = {}
        for each in staged:
            uid, key = each.metadata.uid or each.metadata.key, each.metadata.key
            states[key] = State(uid, self._compressor.compress(each.object))
            self._remembered.put(self._stream.key, key, states[key])
        return states

    def _tell(self, event: Event, states: dict[str, State | None]) -> Iterable[Event]:
        attributes, change = event.attributes, event.change
        key, uid = attributes.subject, attributes.partitionkey
        attached = event.line[event.line.index(_OPENING) + len(_OPENING) : -2]
        now, before = detach(attached), self._before(key, uid, states)
        if change in GONE and attributes.origin == Origin.RESYNC:
            states[key] = None
            return [_inferred(attributes, now, before)]
        if change == "added":
            before = None
        operations = between(before.object, now.object) if before else []
        if change in GONE:
            states[key] = None
            return [self._event(attributes, now, before, operations)]
        if before and self._stream.unchanged == "drop" and covered(operations, self._noise):
            self._stats.unchanged += 1
            return []
        states[key] = State(uid, self._compressor.compress(attached))
        manager = latest(now.managers, before.managers if before else ())
        attributes = msgspec.structs.replace(attributes, manager=manager.manager, managertime=manager.time)
        return [self._event(attributes, now, before, operations)]

    def _before(self, key: str, uid: str, states: Mapping[str, State | None]) -> Managed | None:
        """The state that was told last, if it is of the same object and not of an earlier one of its name."""
        state = states[key] if key in states else self._remembered.get(self._stream.key, key)
        if state is None or state.uid != uid:
            return None
        try:
            return detach(self._decompressor.decompress(state.data))
        except (zstandard.ZstdError, msgspec.DecodeError) as error:
            _log.error("a remembered state cannot be read", stream=self._stream.key, object=key, error=error)
            return None

    def _event(
        self,
        attributes: Attributes,
        now: Managed,
        before: Managed | None,
        operations: Sequence[Operation],
    ) -> Event:
        if before is None:
            return splice(attributes, b'{"object":%b}' % now.object)
        patch = msgspec.json.encode([each.document for each in operations])
        previous = b"" if self._stream.diff == "patch" else b',"previous":' + before.object
        return splice(attributes, b'{"object":%b%b,"patch":%b}' % (now.object, previous, patch))


def _inferred(attributes: Attributes, now: Managed, before: Managed | None) -> Event:
    """Nobody saw the deletion: what the object was when it was seen last says more than the index."""
    return splice(attributes, b'{"object":%b}' % (before or now).object)
