"""What an answer says about the records that were sent; the same over HTTP and gRPC.

Only a full ExportLogsServiceResponse counts as a yes. Whatever else might be said in a friendly voice is
unknown, and unknown means not delivered.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from kexport import TransientError

_SHOWN_CHARACTERS = 300


class MisconfiguredError(TransientError):
    """Somebody must change something; when opening it is a reason not to start."""


class Outcome(Enum):
    """What became of the records of a request."""

    TAKEN = "taken"
    REJECTED = "some rejected"
    REFUSED = "the whole request refused, for what is in it"
    TOO_LARGE = "the whole request refused, for its size"
    FAILED = "the server failed and doesn't want it again: its own trouble, or one record's doing"


class Verdict(NamedTuple):
    """An answer that is about the records; `message` names the server where it is a complaint."""

    outcome: Outcome
    message: str = ""

    @property
    def taken(self) -> bool:
        return self.outcome is Outcome.TAKEN


class Voice:
    """Knows how to name the server, and which words must not be shown."""

    def __init__(self, *, place: str, shown: str, secrets: Iterable[str]) -> None:
        self.place = place
        self.who = f"{place}: {shown}"
        self._secrets = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def quoted(self, text: str) -> str:
        """One line of what the server said, without what it was told in secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"

    def counted(self, rejected: int, message: str) -> Verdict:
        """The verdict of a full answer; raises ValueError for a count that can't be one."""
        if rejected < 0:
            raise ValueError(f"{rejected} rejected records")
        return Verdict(Outcome.REJECTED if rejected else Outcome.TAKEN, self.quoted(message))
