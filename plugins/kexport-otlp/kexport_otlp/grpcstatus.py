"""What an answer over gRPC means: the only place where its codes, details and messages are judged.

Which codes may be repeated is OTLP's list. One that may not be says that the request would fail again: the
server's own trouble or one record's doing, which the sink finds out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from google.protobuf.any_pb2 import Any  # type: ignore[import-untyped, unused-ignore]  # has no types
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped, unused-ignore]
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped, unused-ignore]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from kexport import TransientError
from kexport_otlp.verdict import MisconfiguredError, Outcome, Verdict, Voice

_PASSING = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_REFUSED = frozenset({"INVALID_ARGUMENT"})
_WAY_OUT = {
    "UNAUTHENTICATED": "check headers.authorization, or the client's certificate",
    "PERMISSION_DENIED": "let these credentials write logs",
    "UNIMPLEMENTED": "check endpoint; OTLP/gRPC servers usually listen on port 4317."
    ' If it only lacks gzip, set compression = "none"',
}
# Every language's server has words of its own; tonic says it with OUT_OF_RANGE.
_TOO_LARGE = re.compile(r"larger than max|(exceeds|exceeded) .*(max|size|limit)|too large", re.IGNORECASE)
_SIZE_CODES = frozenset({"RESOURCE_EXHAUSTED", "OUT_OF_RANGE"})
_DISTRUST = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
_UNREACHED = "failed to connect to all addresses"
_RETRY_INFO = "google.rpc.RetryInfo"
_STATUS_DETAILS, _RETRY_DELAY = 3, 1  # fields of google.rpc.Status and google.rpc.RetryInfo


class Status(NamedTuple):
    """A gRPC failure, as it came: the code's name, the message, google.rpc.Status from the trailers."""

    code: str
    message: str = ""
    details: bytes = b""


def judge(status: Status, *, voice: Voice, limit_seconds: float) -> Verdict:
    """Raises TransientError for everything that does not settle the fate of the records."""
    said = f"{voice.who} answers {status.code}"
    if text := voice.quoted(status.message):
        said = f"{said} ({text})"
    if "CLIENT: Received message" in status.message:  # grpcio's own refusal to read so large an answer
        raise TransientError(f"{said}, which is no OTLP answer: check endpoint")
    if status.code in _SIZE_CODES and _TOO_LARGE.search(status.message):
        return Verdict(Outcome.TOO_LARGE, said)
    if status.code in _REFUSED:
        return Verdict(Outcome.REFUSED, said)
    if status.code in _WAY_OUT:
        raise MisconfiguredError(f"{said}: {_WAY_OUT[status.code]}")
    delay = _retry_delay(status.details)
    if status.code in _PASSING or (status.code == "RESOURCE_EXHAUSTED" and delay is not None):
        raise _passing(status, said, voice=voice, limit_seconds=limit_seconds, delay=delay)
    return Verdict(Outcome.FAILED, said)


def judge_response(response: bytes, *, voice: Voice) -> Verdict:
    """The verdict of a call that succeeded; raises TransientError unless it is a full OTLP answer."""
    try:
        partial = ExportLogsServiceResponse.FromString(response).partial_success
        return voice.counted(partial.rejected_log_records, partial.error_message)
    except (DecodeError, ValueError) as error:
        raise TransientError(
            f"{voice.who} answers with what cannot be read, which is no OTLP answer and proves nothing:"
            " see whether endpoint is an OTLP/gRPC server"
        ) from error


def _passing(
    status: Status, said: str, *, voice: Voice, limit_seconds: float, delay: float | None
) -> TransientError:
    if any(words in status.message for words in _DISTRUST):
        return MisconfiguredError(
            f"{voice.who}: the server's certificate is not trusted ({voice.quoted(status.message)}):"
            " set ca_file"
        )
    if status.code == "UNAVAILABLE" and _UNREACHED in status.message:
        return TransientError(
            f"{voice.who} cannot be reached ({voice.quoted(status.message)}): see endpoint, whether it wants"
            " http or https, and whether it is up"
        )
    if status.code == "DEADLINE_EXCEEDED":
        limit = f"{limit_seconds:g}"
        return TransientError(
            f"{voice.who} has not answered within request_timeout_seconds = {limit}", retry_after=delay
        )
    return TransientError(said, retry_after=delay)


def _retry_delay(details: bytes) -> float | None:
    """RetryInfo's delay in a serialized google.rpc.Status; None where there is none that can be read."""
    try:
        for packed in _messages(details, _STATUS_DETAILS):
            found = Any.FromString(packed)
            if found.type_url.rpartition("/")[2] == _RETRY_INFO:
                delays = [Duration.FromString(each) for each in _messages(found.value, _RETRY_DELAY)]
                # Without a delay: at once, says protobuf's default.
                return max([0.0, *(float(delay.seconds + delay.nanos / 1e9) for delay in delays)])
    except DecodeError:
        pass
    return None


def _messages(serialized: bytes, field: int) -> list[bytes]:
    """A field's submessages; what an empty message doesn't know of is kept, so no class is needed for it."""
    fields = UnknownFieldSet(Empty.FromString(serialized))
    return [each.data for each in fields if each.field_number == field and isinstance(each.data, bytes)]
