"""One message at a time to the webhook, and what Slack's answers mean. Foreign exceptions end here.

Slack says in a word what is wrong. Few words are about the message: only these may lead to a rejected event.
The others (no such webhook, an archived channel) are somebody's to mend, and lose no message meanwhile.
"""

from __future__ import annotations

import math
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import NamedTuple

import aiohttp
import msgspec
from yarl import URL

from kexport import TransientError

_MOST_ANSWER_BYTES = 65_536
_SHOWN_CHARACTERS = 200
_LEAST_SECRET_CHARACTERS = 8
_USER_AGENT = f"kexport-slack/{version('kexport')}"
_ABOUT_THE_MESSAGE = frozenset(
    {"invalid_payload", "no_text", "missing_text_or_fallback_or_attachments", "msg_too_long"}
)
_WAY_OUT = {
    "action_prohibited": "an administrator of the workspace forbids it",
    "channel_is_archived": "unarchive the channel, or make a webhook for another",
    "channel_not_found": "make a webhook for a channel that exists",
    "invalid_token": "webhook_url is wrong or revoked: make a new one",
    "no_active_hooks": "the webhook is disabled: make a new one",
    "no_service": "the webhook is removed or disabled: make a new one",
    "no_service_id": "webhook_url is not complete: copy it again",
    "no_team": "webhook_url is wrong or the workspace is gone: make a new one",
    "posting_to_general_channel_denied": "make a webhook for another channel",
    "team_disabled": "the workspace is disabled",
}


class Verdict(NamedTuple):
    """Whether the message has arrived; if not, it is refused for what it says."""

    taken: bool
    message: str = ""


class Client:
    """A session that is made when needed, and again after a failure."""

    def __init__(self, url: URL, *, timeout_seconds: float, place: str) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._who = f"{place}: {url.origin()}"
        path = url.path.strip("/")
        secrets = [path, *path.split("/"), *url.query.values()]
        self._secrets = sorted(filter(_is_secret, secrets), key=len, reverse=True)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, text: str) -> Verdict:
        """Whether Slack has the message; raises TransientError where that is not known, or not its fault."""
        # Plain text, so that names with stars and underlines stay what they are.
        body = msgspec.json.encode(
            {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
        )
        session = self._get_session()
        try:
            async with session.post(self._url, data=body, allow_redirects=False) as response:
                answer = await _beginning(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            await self.close()
            raise self._mapped(error) from error
        return self._verdict(response.status, self._quoted(answer), response.headers.get("Retry-After", ""))

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": _USER_AGENT, "Content-Type": "application/json; charset=utf-8"},
                timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
            )
        return self._session

    def _verdict(self, status: int, word: str, retry_after: str) -> Verdict:
        said = f"{self._who} answers {status} ({word or 'no text'})"
        if status == 200:
            if word == "ok":
                return Verdict(taken=True)
            raise TransientError(f"{said}, which is not Slack's ok and proves nothing: check webhook_url")
        if status == 413 or (status == 400 and word in _ABOUT_THE_MESSAGE):
            return Verdict(taken=False, message=f"{said} to this change alone: see what is odd about it")
        if 300 <= status < 400:
            raise TransientError(f"{said}: redirects are not followed: check webhook_url")
        if status == 429 or status >= 500:
            raise TransientError(said, retry_after=_seconds(retry_after))
        raise TransientError(f"{said}: {_WAY_OUT.get(word, 'check webhook_url, and the app in Slack')}")

    def _mapped(self, error: Exception) -> TransientError:
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = error.os_error.strerror or error.os_error
            return TransientError(f"{self._who} cannot be reached ({reason}): see whether it may be")
        if isinstance(error, TimeoutError):
            limit = f"{self._timeout_seconds:g}"
            return TransientError(f"{self._who} has not answered within request_timeout_seconds = {limit}")
        return TransientError(
            f"{self._who}: the connection broke before the answer was complete ({type(error).__name__})"
        )

    def _quoted(self, body: bytes) -> str:
        """One line of what was said, without the secret parts of the URL."""
        text = body.decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _is_secret(part: str) -> bool:
    """Short parts, such as `services`' neighbours, tell nothing and stand in many words."""
    return len(part) >= _LEAST_SECRET_CHARACTERS and part != "services"


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= _MOST_ANSWER_BYTES:
            break
    return body


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
