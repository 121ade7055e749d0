"""What a server's answer means: the only place where statuses and bodies are judged.

Only a full ExportLogsServiceResponse counts as a yes. Everything that a proxy, a login page or another kind
of server might say with status 200 is unknown, and unknown means not delivered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]  # has no types
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)

from kexport import TransientError

PROTOBUF = "application/x-protobuf"
_JSON = "application/json"
_SHOWN_CHARACTERS = 300
# The server understood the way, but not what came along it: the records themselves may be at fault.
_CONTENT = frozenset({400, 413, 422})
_WAY_OUT = {
    401: "check headers.authorization, or the client's certificate",
    403: "let these credentials write logs",
    404: "check endpoint; OTLP/HTTP servers usually listen on port 4318 and take /v1/logs",
    405: "check endpoint; OTLP/HTTP servers usually listen on port 4318 and take /v1/logs",
    415: 'the server must take OTLP as protobuf; try compression = "none" if it does not know gzip',
}


class MisconfiguredError(TransientError):
    """Somebody must change something; when opening it is a reason not to start."""


class Answer(NamedTuple):
    """An HTTP answer, as it came."""

    status: int
    content_type: str = ""
    body: bytes = b""
    retry_after: str = ""
    location: str = ""


class Verdict(NamedTuple):
    """An answer that is about the records: all taken, some rejected, or the request refused for them."""

    taken: bool
    message: str = ""
    status: int = 200


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_log_records: int | str = 0  # protobuf's JSON writes 64 bits as a string
    error_message: str = ""


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _PartialSuccess | None = None


class _Status(msgspec.Struct):
    message: str = ""


_response = msgspec.json.Decoder(_Response)
_status = msgspec.json.Decoder(_Status)


class Judge:
    """Knows how to name the server, and which words must not be shown."""

    def __init__(self, *, place: str, shown: str, secrets: Iterable[str]) -> None:
        self._who = f"{place}: {shown}"
        self._secrets = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def verdict(self, answer: Answer) -> Verdict:
        """Raises TransientError for everything that does not settle the fate of the records."""
        if 200 <= answer.status < 300:
            return self._success(answer)
        said = self._said(answer)
        if answer.status in _CONTENT:
            return Verdict(taken=False, message=f"{self._who} answers {said}", status=answer.status)
        if 300 <= answer.status < 400:
            target = self._quoted(answer.location) or "nowhere"
            raise MisconfiguredError(
                f"{self._who} answers {said} and points to {target}: redirects are not followed,"
                " set endpoint to the server itself"
            )
        if answer.status in _WAY_OUT:
            raise MisconfiguredError(f"{self._who} answers {said}: {_WAY_OUT[answer.status]}")
        raise TransientError(f"{self._who} answers {said}", retry_after=_seconds(answer.retry_after))

    def _success(self, answer: Answer) -> Verdict:
        kind = answer.content_type
        try:
            if kind == PROTOBUF or (not answer.body and kind in {"", _JSON}):
                partial = ExportLogsServiceResponse.FromString(answer.body).partial_success
                rejected, message = partial.rejected_log_records, partial.error_message
            elif kind == _JSON:
                decoded = _response.decode(answer.body).partial_success or _PartialSuccess()
                rejected, message = int(decoded.rejected_log_records), decoded.error_message
            else:
                raise self._untrusted(answer, f"as {kind or 'an unnamed type'}")
        except (DecodeError, ValueError) as error:  # msgspec's errors are ValueErrors
            raise self._untrusted(answer, f"as {kind}, but it cannot be read") from error
        if rejected < 0:
            raise self._untrusted(answer, f"with {rejected} rejected records")
        return Verdict(taken=not rejected, message=self._quoted(message))

    def _untrusted(self, answer: Answer, how: str) -> TransientError:
        body = self._quoted(answer.body.decode(errors="replace"))
        return TransientError(
            f"{self._who} answers {answer.status} {how}, which is no OTLP answer and proves nothing:"
            f" {body or 'no text'}: see whether endpoint is an OTLP/HTTP server"
        )

    def _said(self, answer: Answer) -> str:
        """`503 Service Unavailable (queue is full)`."""
        try:
            phrase = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        except ValueError:
            phrase = str(answer.status)
        text = self._quoted(_error_text(answer))
        return f"{phrase} ({text})" if text else phrase

    def _quoted(self, text: str) -> str:
        """One line of what the server said, without what it was told in secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _error_text(answer: Answer) -> str:
    """The message of a google.rpc.Status, in either form, else the text as it is."""
    try:
        if answer.content_type == PROTOBUF:
            # The same fields on the wire as google.rpc.Status: 1 a number, 2 the message.
            return str(ExportLogsPartialSuccess.FromString(answer.body).error_message)
        if answer.content_type == _JSON:
            return _status.decode(answer.body).message
    except (DecodeError, ValueError):
        pass
    return answer.body.decode(errors="replace")


def _seconds(retry_after: str) -> float | None:
    """Retry-After is a number of seconds or a date; anything else is as good as none."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        if date.tzinfo is None:  # "-0000" says that it is UTC, all the same
            date = date.replace(tzinfo=UTC)
        seconds = date.timestamp() - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else None
