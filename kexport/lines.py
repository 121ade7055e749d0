"""Bytes of a watch as they arrive -> complete lines -> what they are. No line may grow without bound."""

from __future__ import annotations

import msgspec

from kexport.change import Metadata, RawObject
from kexport.errors import ApiError, ProtocolError

MAX_LINE_BYTES = 16 << 20
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
        message = self.message[:500] or f"HTTP {http_status}"
        return ApiError(message, status=http_status or self.code, reason=self.reason, retry_after=retry_after)


class _Bookmark(msgspec.Struct, frozen=True):
    """The metadata of a bookmark."""

    resourceVersion: str = ""  # noqa: N815
    annotations: dict[str, str] | None = None


_status = msgspec.json.Decoder(Status)


def status_error(raw: bytes) -> ApiError:
    """The error that a Status says; raises ProtocolError for anything else."""
    try:
        return _status.decode(raw).error()
    except msgspec.DecodeError as error:
        raise ProtocolError(f"an ERROR line without a Status: {error}") from error


class LineSplitter:
    """Feed it chunks; it gives lines without their newline, and keeps the unfinished rest."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes; raises ProtocolError for one beyond the limit."""
        first, newline, rest = chunk.partition(b"\n")
        if not newline:
            self._hold(chunk)
            return []
        self._parts.append(first)
        lines = [b"".join(self._parts)]
        self._parts, self._held = [], 0
        *more, tail = rest.split(b"\n")
        lines += more
        if max(map(len, lines)) > self._max:
            raise self._too_long()
        if tail:
            self._hold(tail)
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
        decoded = _line.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"a watch line that is not one: {error}: {line[:200]!r}") from error
    if decoded.type == "ERROR":
        raise status_error(msgspec.json.encode(decoded.object))
    if decoded.type not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}:
        raise ProtocolError(f"a watch line of the unknown type {decoded.type[:40]!r}")
    return decoded


def decode_metadata(members: RawObject) -> Metadata:
    """An object's identity; raises ProtocolError when it has none, which no stored object lacks."""
    try:
        metadata = _metadata.decode(members["metadata"])
    except (KeyError, msgspec.DecodeError) as error:
        raise ProtocolError(f"an object without usable metadata: {error}") from error
    if not metadata.name or not metadata.resourceVersion:
        raise ProtocolError("an object without name or resourceVersion")
    return metadata


def decode_bookmark(members: RawObject) -> tuple[str, bool]:
    """A bookmark's resourceVersion, and whether it ends the initial events of a WatchList."""
    try:
        metadata = _annotated.decode(members["metadata"])
    except (KeyError, msgspec.DecodeError) as error:
        raise ProtocolError(f"a bookmark without usable metadata: {error}") from error
    if not metadata.resourceVersion:
        raise ProtocolError("a bookmark without resourceVersion")
    ends = (metadata.annotations or {}).get(INITIAL_EVENTS_END) == "true"
    return metadata.resourceVersion, ends
