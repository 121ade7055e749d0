"""The address at which kexport can be looked at: metrics, health, status, and a page that shows it live.

Looking must never cost exporting anything. Every answer is made from figures in memory; the page's events are
made once a second for all viewers, only while there are any, and a viewer who doesn't read them is dropped.
Nothing can be changed here. What changed in the cluster is only shown to who comes from this machine (a port
forward does); a page of another site that was made to lead here is recognised by its Host header.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib.resources import files
from time import monotonic
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web

from kexport import health, metrics, status
from kexport.errors import ConfigError
from kexport.tables import HttpConfig
from kexport.telemetry import get_log
from kexport.view import View
from kexport.waiting import ended, settled

VIEWERS = 8
TICK_SECONDS = 1.0
SLOW_SECONDS = 5.0  # a viewer who takes longer to read one event is dropped
IDLE_SECONDS = 15.0
CLOSE_SECONDS = 1.0
_LOCAL_NAME = "localhost"
_log = get_log("web")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """`async with Web(config.http, view)`; `url` is "" when it serves nothing."""

    def __init__(self, config: HttpConfig, view: View) -> None:
        self._config = config
        self._view = view
        self._metrics = metrics.Metrics(view)
        self._page = files("kexport").joinpath("status.html").read_text(encoding="utf-8")
        self._policy = _policy(self._page)
        self._runner: web.AppRunner | None = None
        self._viewers = 0
        self._closing = asyncio.Event()
        self._made: dict[bool, tuple[float, bytes]] = {}
        self._local_only = True
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen; raises ConfigError when the configured address can't be had.

        The default address may be another kexport's: then it goes on without, since exporting is what counts.
        """
        if not self._config.listen:
            return
        host, port = _address(self._config.listen)
        self._local_only = _is_local(host)
        runner = web.AppRunner(
            self._application(),
            handle_signals=False,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            shutdown_timeout=CLOSE_SECONDS,
        )
        await runner.setup()
        if await self._listens(runner, host, port):
            self._runner = runner
            port = runner.addresses[0][1]
            self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            _log.info("status page and metrics", url=self.url)

    async def _listens(self, runner: web.AppRunner, host: str, port: int) -> bool:
        # Left to end, come what may: cancelled in the middle, it would listen, and nobody could close it.
        starting = asyncio.ensure_future(web.TCPSite(runner, host, port).start())
        cancelled = await settled(starting)
        error = starting.exception()
        if cancelled or error:
            await runner.cleanup()
        if cancelled:
            raise asyncio.CancelledError
        if isinstance(error, OSError):
            self._cannot(error)
        elif error:
            raise error
        return not error

    def _cannot(self, error: OSError) -> None:
        listen, why = self._config.listen, error.strerror or str(error)
        if listen != HttpConfig().listen:
            raise ConfigError(
                f'http.listen: cannot listen on {listen}: {why}; name another address, or "" for none'
            ) from error
        _log.warning("no metrics and no status page: the default address is taken", listen=listen, error=why)

    async def close(self) -> None:
        self._closing.set()
        if self._runner and self._runner.server:
            await ended(self._runner.server.connections, self._runner.cleanup())
        self._runner, self.url = None, ""

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/", self._answer_page)
        application.router.add_get("/events", self._answer_events, allow_head=False)
        application.router.add_get("/livez", self._answer_live)
        application.router.add_get("/metrics", self._answer_metrics)
        application.router.add_get("/readyz", self._answer_ready)
        application.router.add_get("/status.json", self._answer_status)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if self._local_only and not _is_local(_host(request)):
            return web.Response(status=421, text="not the name of this server\n")
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = web.Response(
                status=error.status, text=f"{error.status}: {error.reason}\n", headers=_allowed(error)
            )
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    # -- answers ------------------------------------------------------------------------------------------

    async def _answer_live(self, request: web.Request) -> web.Response:
        return web.Response(text=health.report("livez", [_ALIVE]) if "verbose" in request.query else "ok\n")

    async def _answer_ready(self, request: web.Request) -> web.Response:
        found = health.checks(self._view)
        if health.ready(found):
            return web.Response(text=health.report("readyz", found) if "verbose" in request.query else "ok\n")
        return web.Response(status=503, text=health.report("readyz", found))

    async def _answer_metrics(self, request: web.Request) -> web.Response:
        families = [*self._metrics.collect()]
        page = await asyncio.to_thread(metrics.page, families, request.headers.get("Accept", ""))
        return web.Response(body=page.body, headers={"Content-Type": page.content_type, "Vary": "Accept"})

    async def _answer_status(self, _request: web.Request) -> web.Response:
        body = msgspec.json.encode(status.document(self._view))
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    async def _answer_page(self, _request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": self._policy}
        return web.Response(text=self._page, content_type="text/html", charset="utf-8", headers=headers)

    async def _answer_events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events, for as long as somebody looks and reads."""
        if self._viewers >= VIEWERS:
            return web.Response(
                status=503,
                text=f"{VIEWERS} viewers are served already; close one\n",
                headers={"Retry-After": "10"},
            )
        self._viewers += 1
        try:
            return await self._tell(request, local=_is_local(request.remote) and _is_local(_host(request)))
        finally:
            self._viewers -= 1

    async def _tell(self, request: web.Request, *, local: bool) -> web.StreamResponse:
        headers = {**_HEADERS, "Content-Type": "text/event-stream; charset=utf-8"}
        response = web.StreamResponse(headers=headers)
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await response.prepare(request)
            while not self._closing.is_set():
                async with asyncio.timeout(SLOW_SECONDS):
                    await response.write(self._event(local=local))
                await _until(self._closing, TICK_SECONDS)
        except TimeoutError:
            _log.info("a viewer of the status page does not read; dropped", viewer=request.remote)
            if request.transport:
                request.transport.abort()
        except ConnectionError:
            pass  # gone: nobody to tell
        return response

    def _event(self, *, local: bool) -> bytes:
        """The newest state, made at most once a tick, however many look."""
        at, event = self._made.get(local, (0.0, b""))
        if monotonic() - at >= TICK_SECONDS * 0.9:
            state = {
                "status": status.document(self._view),
                "changes": status.changes(self._view) if local else None,
            }
            event = b"data: %b\n\n" % msgspec.json.encode(state)
            self._made[local] = monotonic(), event
        return event


_ALIVE = health.Check("ping", ok=True)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _address(listen: str) -> tuple[str, int]:
    """Host and port; raises ConfigError."""
    host, _, port = listen.rpartition(":")
    if int(port) > 65535:
        raise ConfigError(f"http.listen: port {port} is above 65535")
    return host.strip("[]"), int(port)


def _host(request: web.Request) -> str:
    """The name by which the client asked, without the port."""
    return re.sub(r":\d+$", "", request.host).strip("[]")


def _is_local(host: str | None) -> bool:
    """Whether this is the machine itself."""
    if not host or host.lower() == _LOCAL_NAME:
        return bool(host)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _policy(page: str) -> str:
    """Only the page's own style and script run, and they only talk to us."""

    def hashes(element: str) -> str:
        found = re.findall(rf"<{element}>(.*?)</{element}>", page, flags=re.DOTALL)
        return " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in found)

    return (
        f"default-src 'none'; style-src {hashes('style')}; script-src {hashes('script')};"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
