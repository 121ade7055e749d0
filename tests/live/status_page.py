"""The status page in a browser: of an engine with one of everything to show, and of a process in trouble."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from kexport.change import StreamKey
from kexport.testing import FakeCluster, make_event
from tests.exporter import Memory
from tests.live.exporting import Process
from tests.live.link import Link
from tests.looking import Looking, looking
from tests.testbed import free_port
from tests.testbed.browser import Browser, Page

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
HOSTILE = "<img src=x onerror=document.title='run'>"
WORDS = "document.getElementById('verdict').textContent"
LIVE = "document.querySelectorAll('#sinks tr').length > 0"
PATCH = [
    {"op": "replace", "path": "/spec/replicas", "value": 3},
    {"op": "remove", "path": "/metadata/labels/team"},
    {"op": "add", "path": "/metadata/annotations", "value": {"note": HOSTILE}},
]

# Every text on the page with the contrast that it has to what lies behind it, after WCAG 2.
CONTRASTS = """(() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim());
    if (!own || !node.getClientRects().length || node.matches("script, style")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(node).color)), luminance(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push({ text: node.textContent.trim().slice(0, 40), ratio });
  }
  return found;
})()"""


@asynccontextmanager
async def shown(browser: Browser, folder: Path) -> AsyncIterator[tuple[Page, Looking]]:
    """The page of an engine in this process, with one of everything that it can show."""
    async with looking(folder, memory=Memory()) as look, browser.page() as page:
        tally = look.view.journal.tally
        gap = {"stream": "pods/*", "reason": "expired", "from": "17", "to": "42"}
        for number, complete in enumerate((True, False)):
            details = {**gap, "complete": complete, "deleted": 3, "recovered": 2}
            tally.recent_gaps.append({"kind": "gap", "time": f"2026-01-01T00:00:0{number}Z", **details})
        data = {"object": {}, "patch": PATCH}
        events = [
            make_event(1, data=data, subject="shop/patched"),
            make_event(2, subject="shop/" + "a-long-name" * 20),
            make_event(3, subject="shop/" + HOSTILE, type="io.kexport.object.deleted"),
        ]
        tally.take(StreamKey("pods/*"), events)
        stats = look.view.stats
        stats.streams["w" * 200 + ".example.com/*"] = type(stats.streams["pods/*"])(error=HOSTILE)
        stats.waiting.append("widgets.example.com")
        lane = stats.lanes["memory"]
        lane.error, lane.retries = "the broker is away: " + "x" * 300, 7
        await page.open(look.web.url + "/")
        await page.until(LIVE)
        await page.until("document.querySelectorAll('#changes tr').length >= 5")
        yield page, look
        assert page.complaints() == []
        assert {*page.requested()} == {look.web.url + "/", look.web.url + "/events"}
        assert await page.evaluate("document.images.length") == 0
        assert await page.evaluate("document.title") == "kexport"


class Exported:
    """A kexport process with a file sink whose folder can be taken away."""

    def __init__(self, folder: Path, cluster: FakeCluster) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        self._link = Link(folder / HOSTILE)
        document = {
            "cluster": {"name": "shop <b>", "url": cluster.url, "recover_max_requests": 0},
            "journal": {"path": str(folder / "state")},
            "http": {"listen": f"127.0.0.1:{port}"},
            "resources": [{"resource": "pods", "diff": True}],
            "sinks": {
                "changes": {
                    "type": "file",
                    "path": str(folder / HOSTILE / "changes.jsonl"),
                    "retry": {"max_seconds": 1.0},
                }
            },
        }
        self.process = Process(folder, document)

    async def start(self) -> None:
        self.process.start()
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(self.url + "readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)

    def down(self) -> None:
        self._link.down()

    def up(self) -> None:
        self._link.up()


async def colour(page: Page, place: str, name: str) -> list[float]:
    read = f"getComputedStyle(document.querySelector('{place}')).{name}.match(/[\\d.]+/g).map(Number)"
    value: list[float] = await page.evaluate(read)
    return value


def is_red(colour: list[float]) -> bool:
    red, green, blue = colour[:3]
    return red > green + 10 and red > blue + 10
