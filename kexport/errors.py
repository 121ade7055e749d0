"""Every error kexport raises, arranged by what the engine does about it.

Nothing here is caught for comfort: a `ConfigError` ends the process with exit code 2 before the cluster is
touched, an `ApiError` is answered by the informer's state machine, a `SinkError` by the sink's lane.
"""

from __future__ import annotations


class KexportError(Exception):
    """The root; the message names the place, the problem and the way out."""


def placed(problem: object, place: str) -> str:
    """A message behind its place, unless it names that one, or one within, by itself."""
    message = str(problem)
    return message if message.startswith((f"{place}:", f"{place}.")) else f"{place}: {message}"


class ConfigError(KexportError):
    """It can never work as it is configured: exit code 2."""


class UnknownResourceError(ConfigError):
    """The server has no resource of this name; one that is installed later may be meant."""


class NewClusterError(ConfigError):
    """The API server's address leads to another cluster than the journal is of; `uid` is that one's."""

    def __init__(self, message: str, *, uid: str) -> None:
        super().__init__(message)
        self.uid = uid


class JournalError(KexportError):
    """The journal cannot be used: exit code 1; nothing accepted is lost, the file stays as it is."""


class DamagedChunkError(JournalError):
    """Stored events cannot be read any more: `count` of them, the last at position `last`."""

    def __init__(self, message: str, *, last: int, count: int) -> None:
        super().__init__(message)
        self.last = last
        self.count = count


class JournalLockedError(JournalError):
    """Another process holds the journal's directory."""


class ApiError(KexportError):
    """The API server answered with an error `Status`, as HTTP status or inside a watch.

    `status` is the HTTP code (also for errors inside a watch), `reason` the Status reason such as "Expired",
    `retry_after` the seconds that the server asked for, if it did.
    """

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def expired(self) -> bool:
        """Whether the resourceVersion is out of the server's history (410 in either of its forms)."""
        return self.status == 410 or self.reason in {"Expired", "Gone"}


class ConnectionLostError(KexportError):
    """The API server could not be reached, or the connection broke; says nothing about any object."""


class ProtocolError(KexportError):
    """The API server sent something that a watch must not contain; the position before it stays valid."""


class SinkError(KexportError):
    """A batch was not fully written; `written` is the length of the durable prefix."""

    def __init__(self, message: str, *, written: int = 0) -> None:
        super().__init__(message)
        self.written = written


class PushError(KexportError):
    """The far end of the metrics did not take them."""


class TransientError(SinkError):
    """Write the rest again, after `retry_after` seconds or the lane's own backoff."""

    def __init__(self, message: str, *, written: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message, written=written)
        self.retry_after = retry_after


class RejectedError(SinkError):
    """Event number `written` of the batch will never be accepted: set it aside and go on behind it."""
