"""The status page as a file: whole, safe from what it shows, readable for all; a browser has it in live/."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

from typing_extensions import override

from kexport import status, web
from tests.looking import looking

PAGE = (Path(web.__file__).parent / "status.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every element of a page with its attributes; fails at one that is left open or closed twice."""

    VOID = frozenset({"meta", "input", "link", "img", "br", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []

    @override
    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    @override
    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    @override
    def close(self):
        super().close()
        assert not self._open


def elements():
    parser = Elements()
    parser.feed(PAGE)
    parser.close()
    return parser.found


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere():
    found = elements()
    assert {"html", "main", "table", "script", "style"} <= {tag for tag, _ in found}
    for tag, attributes in found:
        assert not {"src", "href", "style", "action"} & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.findall(r"(?:https?:)?//[a-z]", PAGE)
    assert "@import" not in PAGE
    assert "url(" not in PAGE


def test_what_comes_from_a_cluster_can_only_become_text():
    assert "textContent" in PAGE
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert way not in PAGE


def test_the_script_finds_every_element_that_it_names():
    ids = {attributes["id"] for _, attributes in elements() if "id" in attributes}
    named = set(re.findall(r'byId\("([a-z-]+)"\)', PAGE))
    assert named
    assert named <= ids


def test_the_page_serves_small_screens_darkness_keyboards_and_readers():
    attributes = [attributes for _, attributes in elements()]
    assert any("width=device-width" in (each.get("content") or "") for each in attributes)
    assert "prefers-color-scheme: dark" in PAGE
    assert any(each.get("aria-live") == "polite" for each in attributes)
    assert any(each.get("id") == "filter" and each.get("aria-label") for each in attributes)
    assert "row.tabIndex = index" in PAGE


async def test_only_the_pages_own_script_and_style_may_run(tmp_path):
    async with looking(tmp_path) as look:
        answer = await look.get("/")
        assert answer.text == PAGE
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        for element in ("script", "style"):
            (inner,) = re.findall(rf"<{element}>(.*?)</{element}>", PAGE, flags=re.DOTALL)
            digest = b64encode(sha256(inner.encode()).digest()).decode()
            assert policy[f"{element}-src"] == f"'sha256-{digest}'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_the_page_reads_members_that_are_there():
    """Each member that the script reads of a stream, a sink and the journal is one of the documented."""
    documented = set(re.findall(r"`([a-z_]+)(?:\[\])?`", status.__doc__ or ""))
    for variable in ("stream", "sink", "journal", "status"):
        read = set(re.findall(rf"\b{variable}\.([a-z_]+)", PAGE)) - {"map", "length"}
        assert read
        assert read <= documented, variable
