"""The documents, taken apart: pages, fenced blocks, links, anchors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block, and where it is from."""

    page: str
    language: str
    text: str


def pages() -> list[Path]:
    """Every page of the repository."""
    skipped = {".venv", "build", "node_modules", ".pytest_cache", "templates"}
    found = [path for path in ROOT.rglob("*.md") if not skipped & set(path.relative_to(ROOT).parts)]
    return sorted(found)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> Iterator[Block]:
    for page in pages():
        for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
            if language in languages:
                yield Block(name(page), language, text)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands between backticks, outside of blocks."""
    return [text for _, text in _SPAN.findall(prose(page))]


def links(page: Path) -> list[str]:
    return _LINK.findall(_SPAN.sub(lambda found: "" if "](" in found[2] else found[0], prose(page)))


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may end with, as GitHub makes it."""
    seen: dict[str, int] = {}
    found = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command line of kexport's in a block; pipes and redirections are cut off.

    Where lines begin with a prompt, the others are what was answered.
    """
    found = []
    for block in blocks("", "sh", "bash", "console"):
        lines = block.text.replace("\\\n", " ").splitlines()
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] or lines
        for line in typed:
            if re.match(r"kexport [a-z-]", line):  # the head of a screen has the version there
                words = shlex.split(line, comments=True)
                ends = [number for number, word in enumerate(words) if word in {"|", ">", "&&", ";"}]
                found.append((block.page, words[1 : ends[0] if ends else None]))
    return found
