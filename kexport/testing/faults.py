"""The troubles a test can order: made-up answers for chosen requests, and a network that swallows everything.

`FakeCluster.script` takes the faults that are defined here. Each is played for a request instead of the
server's own answer, or before it.
"""

import asyncio
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from aiohttp import web
from typing_extensions import override

from kexport.testing.failure import ApiFailure

_MESSAGES = {
    401: "Unauthorized",
    429: "too many requests, please try again later",
    500: "Internal error occurred: etcdserver: request timed out",
    503: "apiserver not ready",
}


class Fault(ABC):
    @abstractmethod
    async def play(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """Answer the request, or raise ApiFailure; None lets the server answer it after all."""


@dataclass(frozen=True, kw_only=True)
class Refusal(Fault):
    """The API server's own error answer; `in_stream`: as an ERROR line of a watch, after status 200."""

    status: int
    retry_after: int | None = None
    in_stream: bool = False

    @override
    async def play(self, request: web.BaseRequest) -> web.StreamResponse | None:
        details = None if self.retry_after is None else {"retryAfterSeconds": self.retry_after}
        message = _MESSAGES.get(self.status, f"answer {self.status}, ordered by the test")
        failure = ApiFailure(self.status, message, details=details)
        if not self.in_stream:
            raise failure
        line = msgspec.json.encode({"type": "ERROR", "object": failure.status()}) + b"\n"
        return await Reply(body=line).play(request)


@dataclass(frozen=True, kw_only=True)
class Reply(Fault):
    """An answer that no API server would give, byte by byte as the test wants it.

    A body in pieces is sent as chunks, for ever if the pieces never end. With `promised_bytes` the answer
    announces a length that need not be the body's. `then` says what becomes of the connection: a proper
    `end`, a `cut`, or a `hang` in which nothing more is sent.
    """

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    promised_bytes: int | None = None
    then: Literal["end", "cut", "hang"] = "end"

    @override
    async def play(self, request: web.BaseRequest) -> web.StreamResponse | None:
        headers = {"Content-Type": "application/json"} | dict(self.headers)
        response = web.StreamResponse(status=self.status, headers=headers)
        if self.promised_bytes is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = self.promised_bytes
        await response.prepare(request)
        sent = 0
        for piece in (self.body,) if isinstance(self.body, bytes) else self.body:
            await response.write(piece)
            sent += len(piece)
            if self.promised_bytes is not None and sent > self.promised_bytes and request.transport:
                # What is beyond the promise follows on the connection, where the next answer would begin.
                request.transport.write(piece[self.promised_bytes - sent :])
        if self.then == "hang":
            await asyncio.Event().wait()
        short = self.promised_bytes is not None and sent != self.promised_bytes
        if (short or self.then == "cut") and request.transport:
            request.transport.close()
            return response
        await response.write_eof()
        return response


@dataclass(frozen=True, kw_only=True)
class Hang(Fault):
    """No answer at all, on a connection that stays open: half-open, as behind a dead balancer."""

    @override
    async def play(self, request: web.BaseRequest) -> web.StreamResponse | None:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets an event that nobody else has")


@dataclass(frozen=True, kw_only=True)
class Delay(Fault):
    """The right answer, late."""

    seconds: float

    @override
    async def play(self, request: web.BaseRequest) -> web.StreamResponse | None:
        await asyncio.sleep(self.seconds)
        return None


def redirect(location: str, status: int = 302) -> Reply:
    """Send the client, and with it perhaps its token, elsewhere."""
    return Reply(status=status, headers={"Location": location})


def gzip_bomb(unpacked_bytes: int) -> Reply:
    """Answer with zeros that unpack to a thousand times of what is sent."""
    return Reply(body=_packed_zeros(unpacked_bytes), headers={"Content-Encoding": "gzip"})


def _packed_zeros(size: int) -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    for start in range(0, size, len(block)):
        if packed := packer.compress(block[: size - start]):
            yield packed
    yield packer.flush()


@dataclass
class _Planned:
    fault: Fault
    verb: str
    path_contains: str
    times: int


class _Stall:
    def __init__(self, path_contains: str) -> None:
        self.path_contains = path_contains
        self.over = asyncio.Event()


class Faults:
    def __init__(self) -> None:
        self._planned: list[_Planned] = []
        self._stalls: list[_Stall] = []

    def plan(self, fault: Fault, *, verb: str, path_contains: str, times: int) -> None:
        self._planned.append(_Planned(fault, verb, path_contains, times))

    def strike(self, verb: str, path: str) -> Fault | None:
        """Return what is ordered for this request, the oldest order first."""
        for planned in self._planned:
            if planned.times and planned.verb in ("", verb) and planned.path_contains in path:
                planned.times -= 1
                return planned.fault
        return None

    def stall(self, path_contains: str) -> Callable[[], None]:
        """Let nothing through any more for some paths; call what is returned to let it flow again."""
        stall = _Stall(path_contains)
        self._stalls.append(stall)

        def flow() -> None:
            self._stalls.remove(stall)
            stall.over.set()

        return flow

    async def passed(self, path: str) -> None:
        while stall := next((each for each in self._stalls if each.path_contains in path), None):
            await stall.over.wait()
