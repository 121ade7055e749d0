"""The only HTTP to the API server: raw bytes in, raw bytes out, errors in our own words.

Lists go over kept connections. A watch always opens one of its own, so that "try once more on a new
connection" may meet another replica of an HA control plane; so does who asks where a watch would lead.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from kexport.backoff import Pace
from kexport.change import RawObject, Resource
from kexport.credentials import Credentials
from kexport.errors import ApiError, ConnectionLostError, ProtocolError
from kexport.lines import MAX_DEPTH, UNREADABLE, LineSplitter, Status, flatten
from kexport.tables import ClusterConfig
from kexport.transport import Transports, describe

PAGE_ITEMS = 500
INACTIVITY_SECONDS = 75.0  # bookmarks come about every 60 s; the server may forget after 75 s
CONNECT_SECONDS = 10.0
LIST_SECONDS = 60.0  # without a byte
ANSWER_SECONDS = 120.0  # until the head of an answer is whole, however slowly it comes
BODY_SECONDS = 600.0  # until a body is whole; etcd's history is gone by then
MAX_BODY_BYTES = 1 << 30  # unpacked; 500 items of etcd's 1.5 MiB are less
_CHANGE = (b'{"type":"ADDED"', b'{"type":"MODIFIED"', b'{"type":"DELETED"')
JSON = "application/json"


class ListMeta(msgspec.Struct, frozen=True):
    resourceVersion: str = ""  # noqa: N815
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, frozen=True):
    """One page of a list; `items` of built-in types carry no apiVersion and kind of their own."""

    kind: str
    apiVersion: str  # noqa: N815
    metadata: ListMeta
    items: list[RawObject] | None = None

    def objects(self) -> Iterator[RawObject]:
        """The items as a watch would show them: built-in types say what they are, and that comes first."""
        head = {
            "kind": msgspec.Raw(msgspec.json.encode(self.kind.removesuffix("List"))),
            "apiVersion": msgspec.Raw(msgspec.json.encode(self.apiVersion)),
        }
        for item in self.items or ():
            yield item if "kind" in item else head | item


_page = msgspec.json.Decoder(Page)
_status = msgspec.json.Decoder(Status)


class Client:
    """One API server. Raises ApiError for its answers, ConnectionLostError for anything on the way."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self._transports = Transports(Credentials(config))
        self._pace = Pace(config.list_requests_per_second)
        self.watch_list = True
        """Whether the server is believed to serve WatchList; an informer that learns otherwise says so."""

    async def open(self) -> None:
        """Load the credentials; raises ConfigError. Nothing is sent yet."""
        await self._transports.renew()

    async def close(self) -> None:
        await self._transports.close()

    @property
    def address(self) -> str:
        return self._transports.address

    async def get(self, path: str, *, accept: str = JSON, paced: bool = True, **query: str) -> bytes:
        """The body of a GET; `paced=False`: the caller has a bound of its own."""
        if paced:
            await self._pace.wait()
        return await self._body("GET", path, query, accept=accept)

    async def get_anew(self, path: str) -> bytes:
        """The body of a GET on a new connection, as a watch would have it; the caller has a bound."""
        return await self._body("GET", path, {}, fresh=True)

    async def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The body of a POST; only access reviews need it."""
        return await self._body("POST", path, {}, body=body)

    async def pages(
        self, path: str, query: Mapping[str, str], *, paged: bool = True, accept: str = JSON
    ) -> AsyncIterator[Page]:
        """Every page of a list, the same resourceVersion in each; raises ApiError 410 when it ran out of it.

        Only a list that was read to its end is one: a cut or unreadable page raises.
        """
        wanted = {**query, "limit": str(PAGE_ITEMS)} if paged else dict(query)
        while True:
            await self._pace.wait()
            body = await self._body("GET", path, wanted, accept=accept)
            try:
                page = _decode_page(body)
            except UNREADABLE as error:
                raise ProtocolError(f"the list of {path} is not one: {error}") from error
            yield page
            if not page.metadata.continue_:
                return
            # A token carries the version itself; the server refuses the parameters beside it.
            wanted.pop("resourceVersion", None)
            wanted.pop("resourceVersionMatch", None)
            wanted["continue"] = page.metadata.continue_

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], *, inactivity_seconds: float | None = INACTIVITY_SECONDS
    ) -> AsyncIterator[AsyncIterator[list[bytes]]]:
        """An open watch: lists of complete lines, as they arrive; ends when the server closes it.

        `timeoutSeconds` is random in 300 to 600 unless given, so that many watches don't end at once.
        """
        seconds = query.get("timeoutSeconds") or str(random.randint(300, 600))
        asked = {**query, "watch": "1", "timeoutSeconds": seconds}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=inactivity_seconds or float(seconds) + 30
        )
        response = await self._send("GET", path, asked, timeout=timeout, fresh=True)
        try:
            yield self._lines(response)
        finally:
            response.close()

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
        splitter = LineSplitter()
        try:
            async for chunk in response.content.iter_any():
                if lines := splitter.feed(chunk):
                    # What is no change may get into a log.
                    yield [line if line.startswith(_CHANGE) else self._hidden(line) for line in lines]
        # An unfinished last line is dropped with the connection: its version was never taken.
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLostError(f"the watch broke: {describe(error)}") from error

    async def _body(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        accept: str = JSON,
        body: Any = None,
        fresh: bool = False,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=LIST_SECONDS)
        answer = await self._send(method, path, query, accept=accept, body=body, timeout=timeout, fresh=fresh)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await _whole(answer, path)
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLostError(f"the answer to {path} broke off: {describe(error)}") from error
        finally:
            answer.release()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,
        accept: str = JSON,
        body: Any = None,
        fresh: bool = False,
    ) -> aiohttp.ClientResponse:
        """The response to one request, its status below 300; 401 renews the credentials, once."""
        await self._transports.check()
        for last_try in (False, True):
            api = self._transports.watches if fresh else self._transports.lists
            request = await api.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": accept},
                body=body,
                auth_settings=["BearerToken"],
            )
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await api.call_api(*request, _request_timeout=timeout)
                    response: aiohttp.ClientResponse = answer.response
                    if response.status < 300:
                        return response
                    failure = await self._failure(response)
            except (aiohttp.ClientError, OSError) as error:
                raise ConnectionLostError(self._unreachable(error)) from error
            if response.status != 401 or last_try:
                raise failure
            await self._transports.renew(instead_of=api)
        raise AssertionError("unreachable")

    async def _failure(self, response: aiohttp.ClientResponse) -> ApiError:
        """What an error response says, its body cut short, and our token not in it."""
        try:
            body = await response.content.read(64 << 10)
        except (aiohttp.ClientError, OSError):
            body = b""
        finally:
            response.release()
        if response.status < 400:
            return ApiError(_elsewhere(response), status=response.status)
        after = response.headers.get("Retry-After", "")
        retry_after = float(after) if after.isascii() and after.isdigit() else None
        body = self._hidden(body)
        try:
            status = _status.decode(body)
        except UNREADABLE:
            status = Status(message=_foreign(body[:200].decode(errors="replace").strip()))
        return status.error(http_status=response.status, retry_after=retry_after)

    def _hidden(self, text: bytes) -> bytes:
        """The text without our own credentials, should the server repeat them."""
        for secret in self._transports.secrets:
            text = text.replace(secret, b"***")
        return text

    def _unreachable(self, error: BaseException) -> str:
        if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
            return (
                f"the certificate of the API server {self.address} is not trusted: {describe(error)};"
                " check certificate-authority in the kubeconfig"
            )
        return f"cannot reach the API server {self.address}: {describe(error)}"


async def _whole(response: aiohttp.ClientResponse, path: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise ProtocolError(
                f"the answer to {path} is larger than {MAX_BODY_BYTES} bytes; it was not read"
            )
        parts.append(part)
    return b"".join(parts)


def _decode_page(body: bytes) -> Page:
    if not body.isascii():
        body.decode()
    try:
        return _page.decode(body)
    except RecursionError:
        return _page.decode(flatten(body, MAX_DEPTH + 2))  # the objects are two levels down


def _foreign(text: str) -> str:
    """The words of something that does not answer as Kubernetes does."""
    if "HTTP request to an HTTPS server" in text:  # Go's own sentence
        return f"{text.rstrip('.')}: write https:// in cluster.url, or in the kubeconfig's server"
    return text


def _elsewhere(response: aiohttp.ClientResponse) -> str:
    try:
        place = urlsplit(response.headers.get("Location", ""))
        where = f"{place.scheme}://{place.hostname}"
    except ValueError:
        where = "an address that is none"
    return (
        f"the server sends us elsewhere with HTTP {response.status}: {where}; that is not followed, since the"
        " credentials are for this address alone: name the right one in cluster.kubeconfig or cluster.url"
    )


async def allowed(client: Client, verb: str, resource: Resource, namespace: str | None) -> bool:
    """Whether the server lets us (SelfSubjectAccessReview)."""
    attributes = {"verb": verb, "group": resource.group, "resource": resource.name}
    if namespace:
        attributes["namespace"] = namespace
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = msgspec.json.decode(
        await client.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    )
    return bool(answer.get("status", {}).get("allowed"))
