"""A headless Chromium, driven over its DevTools protocol: what a person sees of a page, and does with it.

The browser is the distribution's. aiohttp speaks the protocol, which is JSON on a WebSocket, so that nothing
stands between a test and what the browser says; all of that is kept: requests, errors, violations.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.testbed import packages
from tests.testbed.process import Server

PROGRAM = "chromium"
PATIENCE_SECONDS = 60.0
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "/": 191}
# Without these it asks its maker's servers for updates and the like.
_QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")


class Browser(Server):
    """One browser with an empty profile; `page` opens a tab. Raises BuildError where it can't be had."""

    def __init__(self, folder: Path) -> None:
        packages.provide([PROGRAM], what="the test of the status page")
        super().__init__(folder, name=PROGRAM, command=self._chromium, answers=self._listens)
        self._profile = self.folder / "profile"
        self.address = ""

    def _chromium(self) -> list[str]:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        return [
            PROGRAM,
            "--headless",
            *sandbox,
            "--disable-gpu",
            "--no-first-run",
            *_QUIET,
            f"--user-data-dir={self._profile}",
            "--remote-debugging-port=0",
            "about:blank",
        ]

    def _listens(self) -> bool:
        """It writes its port down as soon as it can be spoken to."""
        port, _, _ = (self._profile / "DevToolsActivePort").read_text().partition("\n")
        self.address = f"http://127.0.0.1:{port}"
        return bool(port)

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        async with aiohttp.ClientSession() as session:
            async with session.put(f"{self.address}/json/new?about:blank") as answer:
                target = await answer.json()
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                try:
                    for domain in ("Page", "Runtime", "Network", "Log"):
                        await page.send(f"{domain}.enable")
                    yield page
                    await page.send("Page.close")
                finally:
                    listening.cancel()
                    await asyncio.wait({listening})


class Page:
    """A tab. `said` has what the browser told of itself: (method, parameters), in order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.said: list[tuple[str, dict[str, Any]]] = []

    async def listen(self) -> None:
        async for message in self._socket:
            document = json.loads(message.data)
            if waiting := self._waiting.pop(document.get("id", 0), None):
                waiting.set_result(document)
            elif "method" in document:
                self.said.append((document["method"], document["params"]))

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(PATIENCE_SECONDS):
            document = await answer
        assert "error" not in document, f"{method}: {document['error']}"
        result: dict[str, Any] = document["result"]
        return result

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, which may be a promise."""
        answer = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def until(self, expression: str, *, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait for an expression to be true; fails with the page's text."""
        try:
            async with asyncio.timeout(seconds):
                while not (value := await self.evaluate(expression)):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"not within {seconds:g} s: {expression}; the page says: {text}") from None
        return value

    # -- a person's side ----------------------------------------------------------------------------------

    async def press(self, key: str, *, shift: bool = False) -> None:
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = _KEYS.get(key, ord(key.upper()[0]))
        common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        await self.send("Input.dispatchKeyEvent", **common, **down)
        await self.send("Input.dispatchKeyEvent", **common, type="keyUp")

    async def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    async def prefer(self, scheme: str) -> None:
        """`dark` or `light`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, path: Path) -> None:
        """The whole page, as long as it is."""
        picture = await self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(picture["data"]))

    # -- what it said -------------------------------------------------------------------------------------

    def requested(self) -> list[str]:
        """Every address that was asked for."""
        return [told["request"]["url"] for method, told in self.said if method == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Errors of scripts, refused loads, violated policies: what stands red in the browser's console."""
        found = []
        for method, told in self.said:
            if method == "Runtime.exceptionThrown":
                found.append(json.dumps(told["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and told["type"] in {"error", "assert", "warning"}:
                found.append(json.dumps(told["args"]))
            elif method == "Log.entryAdded" and told["entry"]["level"] in {"error", "warning"}:
                found.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        return found
