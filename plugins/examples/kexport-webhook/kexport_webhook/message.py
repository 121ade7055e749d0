"""Events -> HTTP messages, as the CloudEvents HTTP Protocol Binding 1.0.2 writes them.

Bytes stay what they are: a structured body is the event's own line, a batch is lines with commas between
them, a binary body is the event's data.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from kexport import Event
from kexport_webhook.config import Mode

STRUCTURED = "application/cloudevents+json; charset=utf-8"
BATCHED = "application/cloudevents-batch+json; charset=utf-8"
# Section 3.1.3.2: all of U+0021 to U+007E but the double quote and the percent sign.
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_NOT_IN_HEADERS = frozenset({"data", "data_base64", "datacontenttype"})

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Message(NamedTuple):
    """The part of a request that speaks of events."""

    headers: dict[str, str]
    body: bytes


def message(events: Sequence[Event], mode: Mode) -> Message:
    """One event in binary or structured mode, any number batched; raises ValueError for no CloudEvent."""
    if mode == "batched":
        return Message({"Content-Type": BATCHED}, b"[" + b",".join(each.encode() for each in events) + b"]")
    (event,) = events
    if mode == "structured":
        return Message({"Content-Type": STRUCTURED}, event.encode())
    return Message(_headers(event), event.data_json)


def _headers(event: Event) -> dict[str, str]:
    """Every attribute of the event, those that a later kexport may add as well."""
    headers = {"Content-Type": event.attributes.datacontenttype}
    for name, raw in _members.decode(event.encode()).items():
        if name not in _NOT_IN_HEADERS:
            value = msgspec.json.decode(raw)
            text = value if isinstance(value, str) else bytes(raw).decode()  # numbers and booleans
            headers[f"ce-{name}"] = quote(text, safe=_SAFE)
    return headers


def signature(key: bytes, events: Sequence[Event], body: bytes, *, now: float) -> dict[str, str]:
    """The headers of Standard Webhooks; a repeated message has the same id, any other has another."""
    told = hashlib.sha256(b"\n".join(each.encode() for each in events)).hexdigest()
    name, timestamp = f"msg_{told[:32]}", str(int(now))
    signed = hmac.new(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }


def spans(events: Sequence[Event], *, max_events: int, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Spans of events, in order, that fit into a batch each; one too large is a span of its own."""
    first, total = 0, len("[]")
    for index, event in enumerate(events):
        size = len(event.encode()) + len(",")
        if index > first and (index - first >= max_events or total + size > max_bytes):
            yield first, index
            first, total = index, len("[]")
        total += size
    if first < len(events):
        yield first, len(events)
