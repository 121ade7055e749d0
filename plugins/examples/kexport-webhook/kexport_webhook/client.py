"""One request at a time: connections, TLS and time limits. Foreign exceptions end here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from importlib.metadata import version

import aiohttp

from kexport import TransientError
from kexport_webhook.answer import Answer, MisconfiguredError
from kexport_webhook.config import Endpoint, WebhookConfig

_MOST_ANSWER_BYTES = 65_536
_USER_AGENT = f"kexport-webhook/{version('kexport')}"


class Client:
    """A session that is made when needed, and again after a failure: certificate files may be new by then."""

    def __init__(self, config: WebhookConfig, endpoint: Endpoint, *, place: str) -> None:
        self._config = config
        self._url = endpoint.url
        self._shown = endpoint.shown
        self._place = place
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Read the certificate files; nothing is sent, since every request is an event to the endpoint."""
        await self._get_session()

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer, or TransientError: then nobody knows what became of the request."""
        session = await self._get_session()
        try:
            async with session.request(
                self._config.method, self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return Answer(
                    status=response.status,
                    body=await _beginning(response),
                    retry_after=response.headers.get("Retry-After", ""),
                    location=response.headers.get("Location", ""),
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            await self.close()
            raise self._mapped(error) from error

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            trust = await asyncio.to_thread(self._load_tls) if self._url.scheme == "https" else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trust),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": _USER_AGENT, **self._config.headers},
                timeout=aiohttp.ClientTimeout(total=self._config.request_timeout_seconds),
            )
        return self._session

    def _load_tls(self) -> ssl.SSLContext:
        """Read the files; one that can't be used may be in the middle of being replaced."""
        config = self._config
        setting = "ca_file"
        try:
            context = ssl.create_default_context(cafile=config.ca_file or None)
            setting = "key_file" if config.key_file else "cert_file"
            if config.cert_file:
                # An empty password, else OpenSSL asks at the terminal for that of an encrypted key.
                context.load_cert_chain(config.cert_file, config.key_file or None, password=lambda: "")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "strerror", None) or error
            raise MisconfiguredError(
                f"{self._place}.{setting}: cannot be used ({reason}): correct it"
            ) from error
        return context

    def _mapped(self, error: Exception) -> TransientError:
        who = f"{self._place}: {self._shown}"
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            return MisconfiguredError(
                f"{who}: the server's certificate is not trusted ({reason}): set ca_file"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = error.os_error.strerror or error.os_error
            return TransientError(f"{who} cannot be reached ({reason}): see url, and whether it is up")
        if isinstance(error, TimeoutError):
            limit = f"{self._config.request_timeout_seconds:g}"
            return TransientError(f"{who} has not answered within request_timeout_seconds = {limit}")
        return TransientError(
            f"{who}: the connection broke before the answer was complete ({type(error).__name__})"
        )


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """As much of the body as a message may need; a longer one costs the connection, not the answer."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= _MOST_ANSWER_BYTES:
            break
    return body[:_MOST_ANSWER_BYTES]
