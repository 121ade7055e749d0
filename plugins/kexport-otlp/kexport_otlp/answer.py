"""What an answer over HTTP means: the only place where its statuses and bodies are judged.

A proxy, a login page or another kind of server may say anything with status 200: it proves nothing.
"""

from __future__ import annotations

import math
import time
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
from kexport_otlp.verdict import MisconfiguredError, Outcome, Verdict, Voice

PROTOBUF = "application/x-protobuf"
_JSON = "application/json"
# The server understood the way, but not what came along it: the records themselves may be at fault.
# OTLP forbids to repeat what got a 500; other trouble (502, 503, 504, a proxy's 520) passes.
_CONTENT = {
    400: Outcome.REFUSED,
    413: Outcome.TOO_LARGE,
    422: Outcome.REFUSED,
    500: Outcome.FAILED,
}
_WAY_OUT = {
    401: "check headers.authorization, or the client's certificate",
    403: "let these credentials write logs",
    404: "check endpoint; OTLP/HTTP servers usually listen on port 4318 and take /v1/logs",
    405: "check endpoint; OTLP/HTTP servers usually listen on port 4318 and take /v1/logs",
    415: 'the server must take OTLP as protobuf; try compression = "none" if it does not know gzip',
}


class Answer(NamedTuple):
    """An HTTP answer, as it came."""

    status: int
    content_type: str = ""
    body: bytes = b""
    retry_after: str = ""
    location: str = ""


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_log_records: int | str = 0  # protobuf's JSON writes 64 bits as a string
    error_message: str = ""


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _PartialSuccess | None = None


class _Status(msgspec.Struct):
    message: str = ""


_response = msgspec.json.Decoder(_Response)
_status = msgspec.json.Decoder(_Status)


def judge(answer: Answer, *, voice: Voice) -> Verdict:
    """Raises TransientError for everything that does not settle the fate of the records."""
    if 200 <= answer.status < 300:
        return _success(answer, voice)
    said = f"{voice.who} answers {_said(answer, voice)}"
    if answer.status in _CONTENT:
        return Verdict(_CONTENT[answer.status], said)
    if 300 <= answer.status < 400:
        target = voice.quoted(answer.location) or "nowhere"
        raise MisconfiguredError(
            f"{said} and points to {target}: redirects are not followed, set endpoint to the server itself"
        )
    if answer.status in _WAY_OUT:
        raise MisconfiguredError(f"{said}: {_WAY_OUT[answer.status]}")
    raise TransientError(said, retry_after=_seconds(answer.retry_after))


def _success(answer: Answer, voice: Voice) -> Verdict:
    kind = answer.content_type
    try:
        if kind == PROTOBUF or (not answer.body and kind in {"", _JSON}):
            partial = ExportLogsServiceResponse.FromString(answer.body).partial_success
            return voice.counted(partial.rejected_log_records, partial.error_message)
        if kind == _JSON:
            decoded = _response.decode(answer.body).partial_success or _PartialSuccess()
            return voice.counted(int(decoded.rejected_log_records), decoded.error_message)
    except (DecodeError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise _untrusted(answer, voice, f"as {kind}, but it cannot be read") from error
    raise _untrusted(answer, voice, f"as {kind or 'an unnamed type'}")


def _untrusted(answer: Answer, voice: Voice, how: str) -> TransientError:
    body = voice.quoted(answer.body.decode(errors="replace"))
    return TransientError(
        f"{voice.who} answers {answer.status} {how}, which is no OTLP answer and proves nothing:"
        f" {body or 'no text'}: see whether endpoint is an OTLP/HTTP server"
    )


def _said(answer: Answer, voice: Voice) -> str:
    """`503 Service Unavailable (queue is full)`."""
    try:
        phrase = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = str(answer.status)
    text = voice.quoted(_error_text(answer))
    return f"{phrase} ({text})" if text else phrase


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
