"""The status page in a real browser: true while things go wrong, readable anywhere, safe from what it shows.

Screenshots go to build/screenshots, for a person to look at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kexport.testing import FakeCluster
from tests.live.status_page import (
    CONTRASTS,
    HOSTILE,
    LIVE,
    PICTURES,
    WORDS,
    Exported,
    colour,
    is_red,
    shown,
)
from tests.looking import looking, pod
from tests.testbed.browser import Browser, Page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


# -- while things go wrong --------------------------------------------------------------------------------


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


# A rate is shown for a second: it is noted by the page itself, which cannot miss it.
NOTE_RATES = """new MutationObserver(() => {
  const shown = document.querySelector("#streams td:nth-child(4)").textContent;
  window.rated = window.rated || /[1-9]/.test(shown);
}).observe(document.getElementById("streams"), {subtree: true, childList: true, characterData: true})"""


async def streams_in(page: Page, cluster: FakeCluster) -> None:
    await page.evaluate(NOTE_RATES)
    for number in range(5):
        cluster.create(pod(f"web-{number}"))
    await page.until("document.getElementById('changes').textContent.includes('pods default/web-4')")
    await page.until("window.rated === true")
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
