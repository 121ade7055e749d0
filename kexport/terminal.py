"""Text for a terminal: what comes from a cluster may be read there, and never act on it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

Colour = Literal["red", "green", "yellow", "magenta", "dim"]
_CODES: dict[Colour, str] = {"red": "31", "green": "32", "yellow": "33", "magenta": "1;35", "dim": "2"}


def plain(text: str) -> str:
    """One line of printable characters: escape sequences lose what makes them work."""
    return "".join(_harmless(character) for character in text)


def lines(text: str) -> str:
    """As `plain`, but lines stay lines; the others are set in, so that none passes for the first."""
    first, *rest = text.split("\n")
    return "\n".join([plain(first), *(f"    {plain(each)}" for each in rest)])


def _harmless(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else ""


def paint(text: str, colour: Colour, *, coloured: bool) -> str:
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if coloured else text


def takes_colour(stream: TextIO) -> bool:
    """Whether a human looks at it who has not asked for plain text (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns as wide as their widest cell; the first row is the heading."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in padded)


def mask(text: str, secrets: Mapping[str, str]) -> str:
    """The text with values that came from `${NAME}` shown as that name."""
    # Longest first, so that a secret that contains another one is masked whole.
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) > 3:
            text = text.replace(value, secrets[value])
    return text
