"""What an endpoint's answer means: the only place where statuses are judged.

A status is about the endpoint (wrong address, missing rights: nothing is set aside for that), about the
moment (ask again), or about the events. Only the last may lead to a rejected event.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from kexport import TransientError

_SHOWN_CHARACTERS = 300
_LATER = frozenset({408, 425, 429})
_WAY_OUT = {
    401: "check headers.authorization, or the client's certificate",
    403: "let these credentials post events",
    404: "check url",
    405: "check url and method",
    406: "check url",
    407: "proxies are not used: let kexport reach the endpoint itself",
    410: "the endpoint is given up: take the sink out of config.toml, or set another url",
    415: "the endpoint doesn't know this content type: try another mode",
    421: "check url",
    426: "check url, it may have to begin with https://",
}


class MisconfiguredError(TransientError):
    """Somebody must change something; when opening it is a reason not to start."""


class Answer(NamedTuple):
    """An HTTP answer, as it came; the body may be cut."""

    status: int
    body: bytes = b""
    retry_after: str = ""
    location: str = ""


class Verdict(NamedTuple):
    """An answer that is about the events: all taken, or the request refused for them."""

    taken: bool
    message: str = ""
    too_large: bool = False


class Judge:
    """Knows how to name the endpoint, and which words must not be shown."""

    def __init__(self, *, place: str, shown: str, secrets: Iterable[str]) -> None:
        self._who = f"{place}: {shown}"
        self._secrets = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def verdict(self, answer: Answer) -> Verdict:
        """Raises TransientError for everything that does not settle the fate of the events."""
        status = answer.status
        if 200 <= status < 300:
            return Verdict(taken=True)
        said = f"{self._who} answers {self._said(answer)}"
        if 300 <= status < 400:
            target = self._quoted(answer.location) or "nowhere"
            raise MisconfiguredError(
                f"{said} and points to {target}: redirects are not followed, since secrets must not go to"
                " another host: set url to the endpoint itself"
            )
        if status in _WAY_OUT:
            raise MisconfiguredError(f"{said}: {_WAY_OUT[status]}")
        if 400 <= status < 500 and status not in _LATER:
            return Verdict(taken=False, message=said, too_large=status == 413)
        raise TransientError(said, retry_after=_seconds(answer.retry_after))

    def _said(self, answer: Answer) -> str:
        """`503 Service Unavailable (queue is full)`."""
        try:
            phrase = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        except ValueError:
            phrase = str(answer.status)
        text = self._quoted(answer.body.decode(errors="replace"))
        return f"{phrase} ({text})" if text else phrase

    def _quoted(self, text: str) -> str:
        """One line of what the endpoint said, without what it was told in secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


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
