"""A few lines of S3 in the test's own loop: conditional creation, and every failure that a test asks for.

What real servers do is tests/live's business; here it is about what comes after an answer, or after none.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import web

from kexport.testing.port import Port

from .fake_aws import taken_down


class FakeS3:
    """One bucket, "lake"; `objects` and `headers` are by key, `puts` has every key that was sent."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.puts: list[str] = []
        self.fail: dict[str, tuple[int, str]] = {}
        """Part of a key -> the status and code to answer with."""
        self.lose_answer: set[str] = set()
        """Parts of keys whose object is stored, though the client is told of a failure, once."""
        self.hang: set[str] = set()
        self.at_once = 0
        self.most_at_once = 0
        self.gather = 0
        """Uploads wait until so many are there together, and then a little for one too many."""
        self.endpoint = ""
        self._port: Port

    @property
    def names(self) -> list[str]:
        return sorted(key for key in self.objects if not key.endswith("_kexport_check"))

    async def __aenter__(self) -> Self:
        self._port = Port()
        self.endpoint = f"http://127.0.0.1:{self._port.number}"
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        self._port.close()

    async def start(self) -> None:
        """Listen; after a stop at the same port, with the objects that were there."""
        self._end = asyncio.Event()
        application = web.Application(client_max_size=1 << 28)
        application.router.add_put("/lake/{key:.*}", self._put)
        application.router.add_get("/pod-identity", self._credentials)
        self._runner = web.AppRunner(application, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port.number).start()

    async def stop(self) -> None:
        """Connections end, those with a request under way too, and new ones are refused."""
        self._end.set()
        await taken_down(self._runner)

    async def _put(self, request: web.Request) -> web.Response:
        key, body = request.match_info["key"], await request.read()
        self.puts.append(key)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._gathered()
            if any(part in key for part in self.hang):
                await self._end.wait()
            return self._answer(key, body, request)
        finally:
            self.at_once -= 1

    async def _gathered(self) -> None:
        async with asyncio.timeout(30):
            while self.most_at_once < self.gather:
                await asyncio.sleep(0.01)
        if self.gather:
            await asyncio.sleep(0.3)

    async def _credentials(self, request: web.Request) -> web.Response:
        """What the agent of EKS pod identity answers to who shows the pod's token."""
        if request.headers.get("Authorization") != "the-pods-token":
            return web.Response(status=401)
        expires = "2099-01-01T00:00:00Z"
        return web.json_response(
            {"AccessKeyId": "pod-key", "SecretAccessKey": "s", "Token": "pod-session", "Expiration": expires}
        )

    def _answer(self, key: str, body: bytes, request: web.Request) -> web.Response:
        for part, (status, code) in self.fail.items():
            if part in key:
                return _refusal(status, code)
        if request.headers.get("If-None-Match") == "*" and key in self.objects:
            return _refusal(412, "PreconditionFailed")
        self.objects[key] = body
        self.headers[key] = dict(request.headers)
        for part in self.lose_answer:
            if part in key:
                self.lose_answer.remove(part)
                return _refusal(400, "RequestTimeout")
        return web.Response(headers={"ETag": '"1"'})


def _refusal(status: int, code: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>as the test &quot;asked&quot;</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")
