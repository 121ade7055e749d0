"""Bytes of a watch as they arrive -> complete lines -> what they are. No line may grow without bound.

Whatever the bytes are, what comes out is a line, or an ApiError or ProtocolError.
"""

from __future__ import annotations

import re

import msgspec

from kexport.change import Metadata, RawObject
from kexport.errors import ApiError, ProtocolError

MAX_LINE_BYTES = 16 << 20
MAX_NAME_CHARACTERS = 1024  # Kubernetes allows 253
MAX_RETRY_SECONDS = 600.0  # what a server may ask for; the API server's own answers are below a minute
MAX_DEPTH = 500
"""Levels of an object that are kept. The API server takes 10,000; JSON parsers elsewhere take about 1,000."""
LEFT_OUT = b'"[left out by kexport: nested more than %d levels deep]"' % MAX_DEPTH
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class _Details(msgspec.Struct, frozen=True):
    retryAfterSeconds: float = 0  # noqa: N815  (Kubernetes' own spelling)


class Status(msgspec.Struct, frozen=True):
    """metav1.Status, as far as it is needed: the server's way to say no."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None

    def error(self, *, http_status: int = 0, retry_after: float | None = None) -> ApiError:
        if self.details and self.details.retryAfterSeconds:
            retry_after = self.details.retryAfterSeconds
        if retry_after is not None:
            retry_after = min(max(retry_after, 0.0), MAX_RETRY_SECONDS)
        message = self.message[:500] or f"HTTP {http_status}"
        return ApiError(message, status=http_status or self.code, reason=self.reason, retry_after=retry_after)


class _Bookmark(msgspec.Struct, frozen=True):
    """The metadata of a bookmark."""

    resourceVersion: str = ""  # noqa: N815
    annotations: dict[str, str] | None = None


_status = msgspec.json.Decoder(Status)
# Beside what JSON itself can be wrong in: bytes that are no UTF-8, and brackets by the thousand.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def status_error(raw: bytes) -> ApiError:
    """The error that a Status says; raises ProtocolError for anything else."""
    try:
        return _status.decode(raw).error()
    except UNREADABLE as error:
        raise ProtocolError(f"an ERROR line without a Status: {error}") from error


class LineSplitter:
    """Feed it chunks; it gives lines without their newline, and keeps the unfinished rest."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes; raises ProtocolError for one beyond the limit."""
        lines: list[bytes] = []
        start, end = 0, chunk.find(b"\n")
        if end >= 0 and self._parts:
            lines.append(b"".join([*self._parts, chunk[:end]]))
            self._parts, self._held = [], 0
            start, end = end + 1, chunk.find(b"\n", end + 1)
        while end >= 0:  # each line is copied once: a split would first copy what is behind the first
            lines.append(chunk[start:end])
            start, end = end + 1, chunk.find(b"\n", end + 1)
        if max(map(len, lines), default=0) > self._max:
            raise self._too_long()
        if start < len(chunk):
            self._hold(chunk[start:])
        return [line for line in lines if line]

    def _hold(self, part: bytes) -> None:
        self._parts.append(part)
        self._held += len(part)
        if self._held > self._max:
            raise self._too_long()

    def _too_long(self) -> ProtocolError:
        return ProtocolError(f"the server sent a line of more than {self._max} bytes")


class WatchLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a watch: `type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: RawObject


_line = msgspec.json.Decoder(WatchLine)
_metadata = msgspec.json.Decoder(Metadata)
_annotated = msgspec.json.Decoder(_Bookmark)


def decode_line(line: bytes) -> WatchLine:
    """The parts of a line; raises ApiError for an ERROR line, ProtocolError for anything unknown."""
    try:
        decoded = _decode(line)
    except UNREADABLE as error:
        raise ProtocolError(f"a watch line that is not one: {error}: {_excerpt(line)}") from error
    if decoded.type == "ERROR":
        raise status_error(msgspec.json.encode(decoded.object))
    if decoded.type not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}:
        raise ProtocolError(f"a watch line of the unknown type {decoded.type[:40]!r}")
    return decoded


def _decode(line: bytes) -> WatchLine:
    if not line.isascii():
        line.decode()  # strings that nobody looks into are not examined otherwise
    try:
        return _line.decode(line)
    except RecursionError:
        return _line.decode(flatten(line, MAX_DEPTH + 1))


def _excerpt(line: bytes) -> str:
    """The beginning of a login page or the like; what may be an object may be a Secret."""
    return f"{len(line)} bytes" if line.startswith(b"{") else repr(line[:200])


_NO_MARKS = bytes(set(range(256)) - set(b'"{}[]'))
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


def flatten(text: bytes, levels: int) -> bytes:
    """The same JSON with LEFT_OUT for each array or object below so many levels.

    One object that anybody may create must not stop the stream of all others. The cut depends on the
    object alone, so that each copy of it has the same bytes.
    """
    # A level takes two characters; to count them is most of what this costs.
    if len(text) <= 2 * levels or text.count(b"{") + text.count(b"[") <= levels or _is_shallow(text, levels):
        return text
    kept: list[bytes] = []
    depth = end = start = 0
    for found in _TOKEN.finditer(text):
        if text[found.start()] in b"{[":
            depth += 1
            if depth == levels + 1:
                start = found.start()
        elif text[found.start()] in b"}]":
            if depth == levels + 1:
                kept += (text[end:start], LEFT_OUT)
                end = found.end()
            depth -= 1
    return b"".join([*kept, text[end:]])


def _is_shallow(text: bytes, levels: int) -> bool:
    """Whether it surely has no more levels: big objects have many brackets, and few of them in each other.

    Without what is escaped every quote begins or ends a string, and two beside each other may go. What is
    left outside are brackets; a pass that takes out the empty pairs takes off one level, or two.
    """
    marks = text.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_MARKS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    for _ in range(levels // 2):
        if not brackets:
            return True
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return False


def decode_metadata(members: RawObject) -> Metadata:
    """An object's identity; raises ProtocolError when it has none, which no stored object lacks."""
    try:
        metadata = _metadata.decode(members["metadata"])
    except (KeyError, *UNREADABLE) as error:
        raise ProtocolError(f"an object without usable metadata: {error}") from error
    if not metadata.name or not metadata.resourceVersion:
        raise ProtocolError("an object without name or resourceVersion")
    if max(map(len, msgspec.structs.astuple(metadata))) > MAX_NAME_CHARACTERS:
        raise ProtocolError(f"an object with a name or version of more than {MAX_NAME_CHARACTERS} characters")
    return metadata


def decode_bookmark(members: RawObject) -> tuple[str, bool]:
    """A bookmark's resourceVersion, and whether it ends the initial events of a WatchList."""
    try:
        metadata = _annotated.decode(members["metadata"])
    except (KeyError, *UNREADABLE) as error:
        raise ProtocolError(f"a bookmark without usable metadata: {error}") from error
    if not metadata.resourceVersion:
        raise ProtocolError("a bookmark without resourceVersion")
    if len(metadata.resourceVersion) > MAX_NAME_CHARACTERS:
        raise ProtocolError(f"a bookmark with a version of more than {MAX_NAME_CHARACTERS} characters")
    ends = (metadata.annotations or {}).get(INITIAL_EVENTS_END) == "true"
    return metadata.resourceVersion, ends
