"""The status page in a real browser: true while things go wrong, readable anywhere, safe from what it shows.

Screenshots go to build/screenshots, for a person to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from kexport.change import StreamKey
from kexport.testing import FakeCluster, make_event
from tests.exporter import Memory
from tests.live.exporting import Process
from tests.looking import Looking, looking, pod
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


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


# -- while things go wrong --------------------------------------------------------------------------------


class Exported:
    """A kexport process with a file sink whose folder can be taken away."""

    def __init__(self, folder: Path, cluster: FakeCluster) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        self._folder = folder / HOSTILE
        self._folder.mkdir()
        document = {
            "cluster": {"name": "shop <b>", "url": cluster.url, "recover_max_requests": 0},
            "journal": {"path": str(folder / "state")},
            "http": {"listen": f"127.0.0.1:{port}"},
            "resources": [{"resource": "pods", "diff": True}],
            "sinks": {
                "changes": {
                    "type": "file",
                    "path": str(self._folder / "changes.jsonl"),
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
        self._folder.rename(self._folder.with_name("away"))
        self._folder.touch()

    def up(self) -> None:
        self._folder.unlink()
        self._folder.with_name("away").rename(self._folder)


async def test_the_page_tells_what_goes_wrong_and_that_it_passed(browser: Browser, tmp_path: Path) -> None:
    async with FakeCluster() as cluster, browser.page() as page:
        cluster.create(pod("first"))
        exported = Exported(tmp_path, cluster)
        try:
            await exported.start()
            await page.resize(1100, 800)
            await page.open(exported.url)
            await page.until(f"{WORDS} === 'ready'")
            await streams_in(page, cluster)
            await sink_fails(page, cluster, exported)
            await gap_happens(page, cluster)
            assert page.complaints() == []
            await process_restarts(page, cluster, exported)
            assert {*page.requested()} == {exported.url, exported.url + "events"}
            assert await page.evaluate("document.title") == "kexport"
        finally:
            exported.process.end()


async def streams_in(page: Page, cluster: FakeCluster) -> None:
    for number in range(5):
        cluster.create(pod(f"web-{number}"))
    await page.until("document.getElementById('changes').textContent.includes('pods default/web-4')")
    await page.until("/[1-9]/.test(document.querySelector('#streams td:nth-child(4)').textContent)")
    first = "document.querySelector('#changes tr td').textContent"
    assert await page.evaluate(first) == "pods default/web-4"
    cluster.patch("pods", "default", "web-1", {"metadata": {"labels": {"team": HOSTILE}}})
    row = "[...document.querySelectorAll('#changes tr')].find((row) => row.querySelector('details'))"
    await page.until(f"{row} !== undefined")
    assert await page.evaluate(f"[...{row}.cells].slice(1, 4).map((cell) => cell.textContent)") == [
        "modified",
        "watch",
        "kexport-testing",
    ]
    await page.evaluate(f"{row}.focus()")
    await page.press("Enter")
    lines = await page.evaluate(f"{row}.querySelector('pre').innerText.trim()")
    assert lines == f'+ /metadata/labels = {{"team":"{HOSTILE}"}}'
    await page.screenshot(PICTURES / "live.png")


async def sink_fails(page: Page, cluster: FakeCluster, exported: Exported) -> None:
    exported.down()
    cluster.create(pod("while-it-fails"))
    state = "document.querySelector('#sinks td:nth-child(2)')"
    await page.until(f"{state}.textContent === 'retrying' && {state}.className === 'bad'")
    error = "document.querySelector('#sinks td:last-child').textContent"
    # The folder's name is hostile: as text it does nothing.
    assert HOSTILE in await page.until(error)
    assert await page.evaluate("document.images.length") == 0
    await page.until("Number(document.querySelector('#sinks td:nth-child(4)').textContent) >= 1")
    await page.screenshot(PICTURES / "sink-fails.png")
    exported.up()
    await page.until(f"{state}.textContent === 'delivering' && {state}.className === 'good'")
    await page.until(f"{error} === ''")


async def gap_happens(page: Page, cluster: FakeCluster) -> None:
    assert await page.evaluate("document.getElementById('gaps-section').hidden")
    await cluster.stop_listening()
    cluster.delete("pods", "default", "web-0", grace_seconds=0)
    cluster.forget()
    await cluster.listen()
    await page.until("!document.getElementById('gaps-section').hidden")
    row = await page.until("document.querySelector('#gaps tr').innerText")
    assert "expired" in row
    assert "history was lost: deleted 1" in row
    for place in ("#gaps tr", "#changes tr.gap"):
        assert await page.until(f"document.querySelector('{place}') !== null")
        assert is_red(await colour(page, place, "backgroundColor"))
    assert is_red(await colour(page, "#gaps td.bad", "color"))
    await page.screenshot(PICTURES / "gap.png")


async def process_restarts(page: Page, cluster: FakeCluster, exported: Exported) -> None:
    exported.process.kill()
    await page.until(f"{WORDS}.startsWith('no answer from kexport')")
    assert is_red(await colour(page, "#verdict", "color"))
    await page.screenshot(PICTURES / "no-answer.png")
    cluster.create(pod("while-it-was-away"))
    await exported.start()
    await page.until(f"{WORDS} === 'ready'")
    await page.until("document.getElementById('changes').textContent.includes('while-it-was-away')")
    # What the browser said of the address being away is all that it complained of.
    assert all("ERR_" in each and exported.url in each for each in page.complaints()), page.complaints()


async def colour(page: Page, place: str, name: str) -> list[float]:
    read = f"getComputedStyle(document.querySelector('{place}')).{name}.match(/[\\d.]+/g).map(Number)"
    value: list[float] = await page.evaluate(read)
    return value


def is_red(colour: list[float]) -> bool:
    red, green, blue = colour[:3]
    return red > green + 10 and red > blue + 10


# -- readable anywhere ------------------------------------------------------------------------------------


async def test_a_change_opens_to_show_its_patch(browser: Browser, tmp_path: Path) -> None:
    async with shown(browser, tmp_path) as (page, _):
        row = (
            "[...document.querySelectorAll('#changes tr')].find((row) => row.textContent.includes('patched'))"
        )
        assert await page.evaluate(f"!{row}.querySelector('details').open")
        assert not await page.evaluate("document.getElementById('openable').hidden")
        assert await page.evaluate("document.querySelectorAll('#changes details').length") == 1
        await page.evaluate(f"{row}.focus()")
        await page.press("Enter")
        lines = await page.evaluate(f"{row}.querySelector('pre').innerText.trim().split('\\n')")
        assert lines == [
            "~ /spec/replicas = 3",
            "- /metadata/labels/team",
            f'+ /metadata/annotations = {{"note":"{HOSTILE}"}}',
        ]
        # It stays open, and keeps the focus, when the next second's figures come.
        seen = await page.evaluate("document.body.innerText")
        await page.until(f"document.body.innerText !== {json.dumps(seen)}")
        assert await page.evaluate(f"{row}.querySelector('details').open && document.activeElement === {row}")
        await page.screenshot(PICTURES / "patch.png")
        await page.press("Enter")
        assert not await page.evaluate(f"{row}.querySelector('details').open")


async def test_everything_can_be_reached_by_keyboard_and_seen_to_be(browser: Browser, tmp_path: Path) -> None:
    async with shown(browser, tmp_path) as (page, _):
        at = "document.activeElement.id || document.activeElement.parentElement.id"
        order = []
        for _ in range(5):
            await page.press("Tab")
            order.append(await page.evaluate(at))
            assert await page.evaluate("document.activeElement.matches(':focus-visible')")
            outline = await page.evaluate(
                "(({outlineStyle, outlineWidth}) => [outlineStyle, parseFloat(outlineWidth)])"
                "(getComputedStyle(document.activeElement))"
            )
            assert outline == ["solid", 2]
        assert order == ["filter", "gaps", "streams", "sinks", "changes"]
        await page.press("Tab", shift=True)
        assert await page.evaluate(at) == "sinks"
        await page.press("ArrowDown")
        await page.press("ArrowDown")
        assert await page.evaluate("document.activeElement.rowIndex") == 2  # the head is row 0
        await page.press("ArrowUp")
        assert await page.evaluate("document.activeElement.rowIndex") == 1
        await page.press("/")
        assert await page.evaluate(at) == "filter"
        for letter in "patched":
            await page.press(letter)
        await page.until("document.querySelectorAll('tbody tr:not([hidden])').length === 1")
        await page.press("Tab")
        assert "patched" in await page.evaluate("document.activeElement.textContent")
        await page.press("/")
        await page.press("Escape")
        assert await page.evaluate("document.querySelectorAll('tbody tr[hidden]').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_in_light_and_in_darkness(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    async with shown(browser, tmp_path) as (page, _):
        await page.prefer(scheme)
        await page.resize(1100, 800)
        await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        light = sum((await colour(page, "body", "backgroundColor"))[:3]) / 3
        assert light > 200 if scheme == "light" else light < 50
        contrasts = await page.evaluate(CONTRASTS)
        assert len(contrasts) > 40
        assert [each for each in contrasts if each["ratio"] < 4.5] == []
        await page.screenshot(PICTURES / f"{scheme}.png")


@pytest.mark.parametrize("width", [360, 412, 768, 1600])
async def test_nothing_must_be_scrolled_sideways(browser: Browser, tmp_path: Path, width: int) -> None:
    async with shown(browser, tmp_path) as (page, _):
        await page.resize(width, 740, phone=width < 500)
        await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        await page.until(f"window.innerWidth === {width}")
        room = await page.evaluate("document.documentElement.clientWidth")  # a scroll bar takes some
        assert await page.evaluate("document.documentElement.scrollWidth") <= room
        beyond = await page.evaluate(
            f"[...document.querySelectorAll('td, p, h2, pre')].filter((node) =>"
            f" node.getBoundingClientRect().right > {room}).map((node) => node.textContent.slice(0, 40))"
        )
        assert beyond == []
        await page.screenshot(PICTURES / f"{width}.png")


async def test_what_got_into_the_page_could_not_run(browser: Browser, tmp_path: Path) -> None:
    async with looking(tmp_path) as look, browser.page() as page:
        await page.open(look.web.url + "/")
        await page.until(LIVE)
        refused = await page.evaluate(
            """new Promise((done) => {
              const refused = [];
              document.addEventListener("securitypolicyviolation", (event) => {
                refused.push(event.effectiveDirective);
                if (refused.length === 5) done(refused.sort());
              });
              const script = document.createElement("script");
              script.textContent = "document.title = 'run'";
              document.body.append(script);
              const holder = document.createElement("div");
              holder.innerHTML = "<img src=/x onerror=\\"document.title = 'run'\\"><p style='color: red'>";
              document.body.append(holder);
              fetch("https://elsewhere.example/").catch(() => {});
            })"""
        )
        assert refused == ["connect-src", "img-src", "script-src-attr", "script-src-elem", "style-src-attr"]
        assert await page.evaluate("document.title") == "kexport"
        assert not any("elsewhere" in url for url in page.requested())
