"""The connections to the API server: kept ones for requests, a new one a watch, from current credentials."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from base64 import b64encode
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from typing_extensions import override

from kexport.credentials import Credentials
from kexport.errors import ConfigError, ConnectionLostError

USER_AGENT = f"kexport/{version('kexport')}"
CREDENTIAL_CHECK_SECONDS = 5.0
READ_BYTES = 2 << 20  # an object may be larger than aiohttp's own buffer
RETIRED_SECONDS = 900.0  # longer than any watch lasts
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 9}  # client-go's: 165 s in all
_USER = re.compile(r"//[^/?#]*@")


class _Transport(RESTClientObject):  # type: ignore[misc]  # the client is untyped
    def __init__(self, configuration: Configuration, *, fresh: bool) -> None:
        super().__init__(configuration)
        self._fresh = fresh

    @override
    def _create_connector(self) -> aiohttp.TCPConnector:
        # No limit: a watch holds its connection, and the default of 100 would be a hard cap on streams.
        return aiohttp.TCPConnector(
            limit=0, ssl=self.ssl_context, force_close=self._fresh, socket_factory=_socket
        )

    @override
    def _create_pool_manager(self) -> _Session:
        # `trust_env` would read ~/.netrc and ask for the proxy in a thread each, for every single request.
        session = aiohttp.ClientSession(
            connector=self._create_connector(), trust_env=False, read_bufsize=READ_BYTES
        )
        return _Session(session, _proxy(self.configuration.host))


class _Session:
    """A session that follows no redirect: it would take the token, or the answer, to another place."""

    def __init__(self, session: aiohttp.ClientSession, proxy: dict[str, Any]) -> None:
        self._session = session
        self._proxy = proxy

    async def request(self, **arguments: Any) -> aiohttp.ClientResponse:
        return await self._session.request(**(self._proxy | arguments), allow_redirects=False)

    async def close(self) -> None:
        await self._session.close()


def _proxy(host: str) -> dict[str, Any]:
    """The proxy that the environment (HTTPS_PROXY, NO_PROXY, …) names for the way to the API server."""
    address = urlsplit(host)
    found = getproxies().get(address.scheme)
    if not found or proxy_bypass(address.netloc.rpartition("@")[2]):
        return {}
    proxy = urlsplit(found)
    if proxy.username is None:
        return {"proxy": found}
    login = aiohttp.encode_basic_auth(unquote(proxy.username), unquote(proxy.password or ""))
    bare = proxy._replace(netloc=proxy.netloc.rpartition("@")[2])
    return {"proxy": bare.geturl(), "proxy_headers": {"Authorization": login}}


def _socket(address: Any) -> socket.socket:
    """One that notices a peer that is gone, also where nothing is ever sent to it, as in a watch."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


class Transports:
    """`lists` keeps connections alive, `watches` opens a new one each time; `renew` comes first."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._current: tuple[ApiClient, ApiClient] | None = None
        self._retired: list[tuple[float, ApiClient]] = []
        self._renewing = asyncio.Lock()
        self._checked_at = 0.0

    @property
    def lists(self) -> ApiClient:
        assert self._current, "renew() comes first"
        return self._current[0]

    @property
    def watches(self) -> ApiClient:
        assert self._current, "renew() comes first"
        return self._current[1]

    @property
    def address(self) -> str:
        """Where requests go; without a user and password, since it stands in logs."""
        return _USER.sub("//", str(self.lists.configuration.host)) if self._current else ""

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What we show to the server and nobody else may see, in the forms in which it may come back."""
        return _secrets(self.lists.configuration) if self._current else ()

    async def close(self) -> None:
        for api in (*(self._current or ()), *(api for _, api in self._retired)):
            await api.close()

    async def check(self) -> None:
        """Look at the files behind the credentials now and then, before a request needs them."""
        now = time.monotonic()
        if now - self._checked_at > CREDENTIAL_CHECK_SECONDS:
            self._checked_at = now
            if self._credentials.stale:
                await self.renew()

    async def renew(self, *, instead_of: ApiClient | None = None) -> None:
        """New transports from freshly loaded credentials; what is open on the old ones goes on."""
        async with self._renewing:
            if instead_of is not None and instead_of not in (self._current or ()):
                return  # somebody else already did
            try:
                loaded = await self._load()
            except ConfigError as error:
                if self._current is None:
                    raise
                # It worked before: a file that is being replaced, a plugin that fails for a moment.
                raise ConnectionLostError(str(error)) from error
            await self._retire()
            self._current = loaded

    async def _load(self) -> tuple[ApiClient, ApiClient]:
        settings = await self._credentials.load()
        try:
            return _api(settings, fresh=False), _api(settings, fresh=True)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(
                "cluster.kubeconfig: a certificate or key in it cannot be used: " + describe(error)
            ) from error

    async def _retire(self) -> None:
        """Put the transports in use aside; close those whose last watch must have ended."""
        now = time.monotonic()
        ended = [api for since, api in self._retired if now - since > RETIRED_SECONDS]
        self._retired = [each for each in self._retired if each[1] not in ended]
        self._retired += [(now, api) for api in self._current or ()]
        for api in ended:
            await api.close()


def _api(settings: Configuration, *, fresh: bool) -> ApiClient:
    api = ApiClient(settings)
    api.rest_client = _Transport(settings, fresh=fresh)
    api.user_agent = USER_AGENT
    return api


def _secrets(settings: Configuration) -> tuple[bytes, ...]:
    token = str(settings.api_key.get("BearerToken", ""))
    return tuple(
        dict.fromkeys(
            form.encode()
            for each in (token.removeprefix("Bearer "), token.partition(" ")[2], settings.password)
            if each and len(each) > 3
            for form in (
                each,
                _json(each),
                _go(each),
                quote(each, safe=""),
                b64encode(each.encode()).decode(),
            )
        )
    )


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _go(text: str) -> str:
    """As Go writes JSON, and so the API server."""
    return _json(text).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def describe(error: BaseException) -> str:
    """One line about a transport error; some have no text of their own."""
    return str(error).strip().split("\n")[0][:300] or type(error).__name__
