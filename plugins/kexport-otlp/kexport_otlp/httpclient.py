"""OTLP/HTTP, one POST at a time: connections and time limits. Foreign exceptions end here."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
from typing_extensions import override

from kexport import TransientError
from kexport_otlp.answer import PROTOBUF, Answer, judge
from kexport_otlp.client import Client
from kexport_otlp.config import USER_AGENT, Endpoint, OtlpConfig
from kexport_otlp.request import compress
from kexport_otlp.tls import load_context
from kexport_otlp.verdict import MisconfiguredError, Verdict, Voice

_MOST_ANSWER_BYTES = 1_000_000


class HttpClient(Client):
    """A session that is made when needed, and again after a failure."""

    def __init__(self, config: OtlpConfig, endpoint: Endpoint, *, voice: Voice) -> None:
        self._config = config
        self._url = endpoint.url
        self._voice = voice
        self._gzip = config.compression == "gzip"
        self._session: aiohttp.ClientSession | None = None
        self._headers = {"User-Agent": USER_AGENT, **config.headers, "Content-Type": PROTOBUF}

    @override
    async def export(self, request: bytes) -> Verdict:
        if not (request and self._gzip):
            return judge(await self._post(request, headers={}), voice=self._voice)
        body = await asyncio.to_thread(compress, request)
        return judge(await self._post(body, headers={"Content-Encoding": "gzip"}), voice=self._voice)

    @override
    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, body: bytes, *, headers: dict[str, str]) -> Answer:
        """The whole answer, or TransientError: then nobody knows what became of the request."""
        session = await self._get_session()
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                return Answer(
                    status=response.status,
                    content_type=response.content_type if "Content-Type" in response.headers else "",
                    body=await self._read(response),
                    retry_after=response.headers.get("Retry-After", ""),
                    location=response.headers.get("Location", ""),
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            await self.close()
            raise self._mapped(error) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = b""
        async for chunk in response.content.iter_chunked(65_536):
            body += chunk
            if len(body) > _MOST_ANSWER_BYTES:
                raise TransientError(
                    f"{self._voice.who} answers with more than {_MOST_ANSWER_BYTES} bytes,"
                    " which is no OTLP answer: check endpoint"
                )
        return body

    async def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            trust: ssl.SSLContext | bool = True
            if self._url.scheme == "https":
                trust = await asyncio.to_thread(load_context, self._config, place=self._voice.place)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trust),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=self._config.request_timeout_seconds),
            )
        return self._session

    def _mapped(self, error: Exception) -> TransientError:
        who = self._voice.who
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            return MisconfiguredError(
                f"{who}: the server's certificate is not trusted ({reason}): set ca_file"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = error.os_error.strerror or error.os_error
            return TransientError(f"{who} cannot be reached ({reason}): see endpoint, and whether it is up")
        if isinstance(error, TimeoutError):
            limit = f"{self._config.request_timeout_seconds:g}"
            return TransientError(f"{who} has not answered within request_timeout_seconds = {limit}")
        return TransientError(
            f"{who}: the connection broke before the answer was complete ({type(error).__name__})"
        )
