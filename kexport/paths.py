"""Paths into an object, as configuration writes them: `spec.containers[*].env[*].value`.

A segment is a member's name, a pattern of names, or every element or member there is. Names that a transform
must leave alone, since an object is nobody's without them, are known here, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from kexport.errors import ConfigError


class Like(msgspec.Struct, frozen=True):
    """Members whose name fits a pattern: `*` stands for any characters."""

    pattern: str

    def fits(self, name: str) -> bool:
        return _regex(self.pattern).fullmatch(name) is not None


class Every(msgspec.Struct, frozen=True):
    """All elements of an array, or all members of an object."""


EVERY = Every()
Segment = str | Like | Every
Path = tuple[Segment, ...]

IDENTITY: tuple[tuple[str, ...], ...] = (
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "uid"),
    ("metadata", "resourceVersion"),
)
"""What says which object it is, in which state."""

_SEGMENT = re.compile(r"""\.?([A-Za-z0-9_$-]+)|\[\s*(?:'([^']*)'|"([^"]*)"|(\*))\s*\]""")
_HINT = "write a.b['c.d/e'].f, with [*] for all elements"


def parse_path(text: str) -> Path:
    """`metadata.annotations['a.b/*']` -> its segments; raises ConfigError that shows the mistake."""
    path: list[Segment] = []
    at = 0
    while at < len(text):
        found = _SEGMENT.match(text, at)
        if not found or (at == 0 and text[0] == "."):
            raise ConfigError(f"field path {text!r} is wrong from {text[at:]!r} on; {_HINT}")
        path.append(_segment(found))
        at = found.end()
    if not path:
        raise ConfigError("a field path is empty; write metadata.labels, for example")
    return tuple(path)


def _segment(found: re.Match[str]) -> Segment:
    plain, single, double, every = found.groups()
    if every:
        return EVERY
    if plain is not None:
        return plain
    name: str = double if single is None else single
    return Like(name) if "*" in name else name


@lru_cache(maxsize=4096)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def fits(segment: Segment, name: str) -> bool:
    """Whether this segment means the member of this name."""
    if isinstance(segment, str):
        return segment == name
    return isinstance(segment, Every) or segment.fits(name)


def touched(path: Path) -> str:
    """The identifying field that a change at `path` would change or take along; "" if there is none."""
    for field in IDENTITY:
        if len(path) <= len(field) and all(map(fits, path, field)):
            return ".".join(field)
    return ""


def show(steps: Iterable[str | int]) -> str:
    """One place in an object as a path: `spec.env[0]['a.b/c']`."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z0-9_$-]+", step):
            text += f".{step}"
        else:
            text += f"['{step}']" if "'" not in step else f'["{step}"]'
    return text.removeprefix(".")
