"""What the tests of the slack sink share: a Slack on loopback, a sink, events of Deployments."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from kexport_slack.config import SlackConfig
from kexport_slack.sink import SlackSink

from kexport import Event
from kexport.testing import make_context, make_event
from kexport.testing.port import Port

PATH = "/services/T0TEAM000/B0HOOK000/s3cretS3cretS3cret"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Message(NamedTuple):
    """One message, and when it came."""

    text: str
    payload: dict[str, Any]
    at: float

    @property
    def lines(self) -> list[str]:
        """The lines below the heading."""
        return self.text.split("\n")[1:]


class Slack:
    """Keeps the messages that it takes; `scripted` answers come first, then refusals of `poison`."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.requests = 0
        self.poison = ""
        self.port = 0
        self.scripted: list[Handler | web.Response] = []

    @property
    def lines(self) -> list[str]:
        return [line for message in self.messages for line in message.lines]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        payload = msgspec.json.decode(await request.read())
        self.requests += 1
        if self.scripted:
            step = self.scripted.pop(0)
            if isinstance(step, web.Response):
                return step
            if (answer := await step(request)) is not None:
                return answer
        if request.path != PATH:
            return web.Response(status=404, text="no_service")
        if self.poison and self.poison in payload["text"]:
            return web.Response(status=400, text="invalid_payload")
        self.messages.append(Message(payload["text"], payload, time.monotonic()))
        return web.Response(text="ok")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Slack]:
        with Port() as port:
            self.port = port.number
            await self.start()
            try:
                yield self
            finally:
                await self.stop()

    async def start(self) -> None:
        """Listen, after `stop` once more; the port is held until the block of `running` ends."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        await self._runner.cleanup()


def build(url: str, **settings: Any) -> SlackSink:
    return SlackSink(
        SlackConfig(**{"webhook_url": url, "min_interval_seconds": 0.0, **settings}),
        make_context("people", cluster="prod-eu"),
    )


@asynccontextmanager
async def opened(slack: Slack, **settings: Any) -> AsyncIterator[SlackSink]:
    sink = build(slack.url, **settings)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def deployment(image: str = "web:1.4", *, replicas: int = 3, **more: Any) -> dict[str, Any]:
    """A Deployment as far as lines speak of it; `more` are annotations, status and containers."""
    containers = more.get("containers") or [{"name": "app", "image": image}]
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "shop", "annotations": more.get("annotations", {})},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}},
        "status": more.get("status", {}),
    }


def told(number: int, change: str, obj: Any = None, *, data: Any = None, **attributes: str) -> Event:
    """An event about the Deployment shop/web, or another one that `attributes` name."""
    uid = attributes.get("partitionkey", "uid-web")
    named: dict[str, Any] = {
        "id": f"{uid}/deleted" if change == "deleted" else f"{uid}/{number}",
        "type": f"io.kexport.object.{change}",
        "subject": "shop/web",
        "partitionkey": uid,
        "kind": "Deployment",
        "resource": "deployments",
        **attributes,
    }
    return make_event(number, data=data or {"object": obj or deployment()}, **named)


def gap(number: int = 1, **details: Any) -> Event:
    details = {"stream": "pods/*", "from": "100", "to": "200", "reason": "expired", **details}
    return make_event(
        number,
        data={"object": details},
        id=f"pods/*/gap/100-{number}",
        type="io.kexport.stream.gap",
        subject="pods/*",
        partitionkey="pods/*",
    )
