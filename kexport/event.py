"""One change as a CloudEvent 1.0, encoded once and shared by every sink.

The public format is `Attributes` followed by `data`, the last member of the structured-mode JSON. The
object's own bytes are spliced in untouched. An event read back from the journal decodes its attributes only
when a sink asks for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from typing_extensions import override

PREFIX = "io.kexport."
OBJECT = PREFIX + "object."
GAP = PREFIX + "stream.gap"
SYNCED = PREFIX + "stream.synced"
ROLLBACK = PREFIX + "stream.rollback"
SCHEMA = PREFIX + "stream.schema"


class Attributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The CloudEvents context attributes, in the order in which they are written.

    `time` is RFC 3339; `sequence` is the resourceVersion padded to 20 digits, so that it sorts as text.
    """

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    partitionkey: str
    sequence: str
    origin: str
    cluster: str
    apiversion: str
    kind: str
    resource: str
    objnamespace: str = ""
    objname: str = ""
    resourceversion: str = ""
    epoch: str = ""
    manager: str = ""
    managertime: str = ""
    rejectedby: str = ""
    rejectedreason: str = ""


class _Whole(msgspec.Struct):
    data: msgspec.Raw


_encoder = msgspec.json.Encoder()
_attributes = msgspec.json.Decoder(Attributes)
_whole = msgspec.json.Decoder(_Whole)
_any = msgspec.json.Decoder()


class Event:
    """One CloudEvent. `line` is the structured-mode JSON without a newline: the same bytes at every repeat.

    `position` is the event's number in the journal: it grows by one an event, and never changes.
    """

    __slots__ = ("_attributes", "line", "position")

    def __init__(self, line: bytes, *, attributes: Attributes | None = None, position: int = 0) -> None:
        self.line = line
        self.position = position
        self._attributes = attributes

    @property
    def attributes(self) -> Attributes:
        """The context attributes; raises msgspec.DecodeError if `line` is no CloudEvent of ours."""
        if self._attributes is None:
            self._attributes = _attributes.decode(self.line)
        return self._attributes

    @property
    def id(self) -> str:
        return self.attributes.id

    @property
    def source(self) -> str:
        return self.attributes.source

    @property
    def type(self) -> str:
        return self.attributes.type

    @property
    def subject(self) -> str:
        return self.attributes.subject

    @property
    def time(self) -> datetime:
        """When the change was observed; an aware datetime."""
        return datetime.fromisoformat(self.attributes.time)

    @property
    def key(self) -> str:
        """The partition key: the object's uid, so that one object's events stay in order."""
        return self.attributes.partitionkey

    @property
    def change(self) -> str:
        """The last word of the type: added, modified, deleted, left, gap, synced, rollback, schema."""
        return self.attributes.type.rpartition(".")[2]

    @property
    def data_json(self) -> bytes:
        """The `data` member's JSON text, as binary-mode bindings send it."""
        return bytes(_whole.decode(self.line).data)

    @property
    def data(self) -> Mapping[str, Any]:
        """The parsed `data`: `{"object": …}`; costs a full parse, for those who need it."""
        return dict(_any.decode(self.data_json))

    def encode(self) -> bytes:
        """The structured-mode JSON (content type application/cloudevents+json)."""
        return self.line

    def rejected(self, *, sink: str, reason: str) -> Event:
        """The same event for a `rejects_to` sink: it also says who refused it, and why."""
        attributes = msgspec.structs.replace(self.attributes, rejectedby=sink, rejectedreason=reason)
        return splice(attributes, self.data_json, position=self.position)

    @override
    def __repr__(self) -> str:
        return f"<Event {self.position} {self.id}>"


def splice(attributes: Attributes, data: bytes, *, position: int = 0) -> Event:
    """The event of these attributes and this `data`, which must be valid JSON text already."""
    line = b'%b,"data":%b}' % (_encoder.encode(attributes)[:-1], data)
    return Event(line, attributes=attributes, position=position)
