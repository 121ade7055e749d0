"""A config.toml in the making: tables with their settings, and notes on what they could not say."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping

from kexport.foreign import Value
from kexport.terminal import plain

_WIDTH = 110
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NEEDS_NO_ESCAPE = re.compile(r"[^'\x00-\x1f\x7f]*")

Setting = str | bool | int | float | list[str] | Mapping[str, str | bool | int | float]


class Table:
    """One table; its notes are written above it."""

    def __init__(self, head: str = "") -> None:
        self.head = head
        self.notes: list[str] = []
        self._lines: list[str] = []

    def set(self, name: str, setting: Setting) -> None:
        self._lines.append(f"{name} = {toml(setting)}")

    def say(self, sentence: str) -> None:
        """A remark that belongs to no place of the file that was read."""
        self.notes.append(sentence)

    def note(self, value: Value, what: str) -> None:
        """What became of a value that has no twin; it is thereby explained, and what is below it named."""
        left = [leaf for each in value.unused() for leaf in each.leaves() if leaf is not value]
        value.use()
        below = ", ".join(leaf.place.removeprefix(value.place).lstrip(".") for leaf in left)
        self.remark(value, f"{what} ({below})" if below else what)

    def remark(self, value: Value, what: str) -> None:
        """The same, but what is below it has still to be explained."""
        place = value.place or "the file"
        self.notes.append(f"line {value.line}, {place}: {what}")

    def render(self) -> str:
        comments = [line for note in self.notes for line in comment(note)]
        head = [self.head] if self.head else []
        return "\n".join([*comments, *head, *self._lines])


class Draft:
    """The tables in their order; `top` has the settings outside of all tables."""

    def __init__(self) -> None:
        self.top = Table()
        self._tables: list[Table] = []

    def table(self, head: str) -> Table:
        self._tables.append(Table(head))
        return self._tables[-1]

    def sink(self, name: str) -> Table:
        return self.table(f"[sinks.{name if _BARE.fullmatch(name) else json.dumps(name)}]")

    @property
    def notes(self) -> int:
        """How many values of the file that was read have a note."""
        return sum(note.startswith("line ") for table in (self.top, *self._tables) for note in table.notes)

    def render(self) -> str:
        parts = [table.render() for table in (self.top, *self._tables)]
        return "\n\n".join(part for part in parts if part) + "\n"


def comment(sentence: str) -> list[str]:
    """The sentence as TOML's comment lines: nothing in it can end the comment."""
    return textwrap.wrap(
        plain(sentence), _WIDTH, initial_indent="# ", subsequent_indent="#   ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def toml(setting: Setting) -> str:
    """The setting as TOML writes it; a text with quotes or backslashes as a literal one, if it can be."""
    if isinstance(setting, bool):
        return "true" if setting else "false"
    if isinstance(setting, str):
        literal = ('"' in setting or "\\" in setting) and _NEEDS_NO_ESCAPE.fullmatch(setting)
        return (
            f"'{setting}'" if literal else json.dumps(setting, ensure_ascii=False).replace("\x7f", "\\u007f")
        )
    if isinstance(setting, Mapping):
        pairs = (f"{name if _BARE.fullmatch(name) else json.dumps(name)} = {toml(each)}"
                 for name, each in setting.items())  # fmt: skip
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(setting, list):
        return "[" + ", ".join(map(toml, setting)) + "]"
    return str(int(setting)) if isinstance(setting, float) and setting.is_integer() else str(setting)
