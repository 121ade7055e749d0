"""What gives AWS credentials, in the test's own loop; each time it is asked, new ones."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

from aiohttp import web

TLS = Path(__file__).parent / "tls"
HIDDEN = "hidden-s3cret"


async def taken_down(runner: web.AppRunner) -> None:
    """Drop the connections too: a client that keeps one open must not outlive its test."""
    assert runner.server
    transports = [connection.transport for connection in runner.server.connections]
    await runner.cleanup()
    for transport in transports:
        if transport:
            transport.abort()


class FakeAws:
    """STS, the agent of pod identity and ECS, and a machine's metadata: each gives a new key when asked."""

    def __init__(self) -> None:
        self.life = timedelta(hours=6)
        self.asked: list[dict[str, str]] = []
        self.answer: tuple[int, str] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeAws]:
        """STS behind TLS, as obstore speaks to no other; the agent and the machine's service in clear."""
        application = web.Application()
        application.router.add_route("*", "/sts", self._sts)
        application.router.add_get("/agent", self._agent)
        application.router.add_put("/latest/api/token", self._session)
        application.router.add_get("/latest/meta-data/iam/security-credentials/", self._role)
        application.router.add_get("/latest/meta-data/iam/security-credentials/machine", self._machine)
        runner = web.AppRunner(application, shutdown_timeout=0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(TLS / "sts.crt", TLS / "sts.key")
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            clear, sealed = (f"{host}:{port}" for host, port, *_ in runner.addresses)
            self.address, self.sts = f"http://{clear}", f"https://{sealed}/sts"
            yield self
        finally:
            await taken_down(runner)

    def _issue(self, asked: dict[str, str]) -> dict[str, str]:
        self.asked.append(asked)
        expires = (datetime.now(UTC) + self.life).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = f"key-{len(self.asked)}"
        return {"AccessKeyId": key, "SecretAccessKey": HIDDEN, "Token": f"for-{key}", "Expiration": expires}

    def _json(self, asked: dict[str, str]) -> web.Response:
        if self.answer:
            return web.Response(status=self.answer[0], text=self.answer[1])
        return web.json_response({**self._issue(asked), "Code": "Success", "Type": "AWS-HMAC"})

    async def _sts(self, request: web.Request) -> web.Response:
        form = parse_qs((await request.read()).decode()) or {
            key: [request.query[key]] for key in request.query
        }
        if self.answer:
            return web.Response(status=self.answer[0], text=self.answer[1])
        given = self._issue({key: values[0] for key, values in form.items()})
        action = form["Action"][0]
        xml = "".join(
            f"<{name}>{value}</{name}>"
            for name, value in {**given, "SessionToken": given["Token"]}.items()
            if name != "Token"
        )
        text = (
            f"<{action}Response><{action}Result><Credentials>{xml}</Credentials></{action}Result>"
            f"</{action}Response>"
        )
        return web.Response(text=text, content_type="text/xml")

    async def _agent(self, request: web.Request) -> web.Response:
        return self._json({"Authorization": request.headers.get("Authorization", "")})

    async def _session(self, _request: web.Request) -> web.Response:
        return web.Response(text="session")

    async def _role(self, _request: web.Request) -> web.Response:
        return web.Response(text="machine")

    async def _machine(self, request: web.Request) -> web.Response:
        return self._json({"Session": request.headers.get("X-aws-ec2-metadata-token", "")})
