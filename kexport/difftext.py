"""A change for reading: a line for each field that changed, the value before and the value after.

Nothing in it can act on a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

import msgspec

from kexport.event import Event
from kexport.patch import Operation, Pointer, between
from kexport.terminal import Colour, paint, plain

INDENT = " " * 17
MOST_LINES = 40
MOST_CHARACTERS = 120
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_$-]+")
_OF_COURSE = frozenset({("metadata", "resourceVersion"), ("metadata", "generation")})  # each change has them


class _Data(msgspec.Struct):
    object: msgspec.Raw
    previous: msgspec.Raw = msgspec.Raw()


class _Whole(msgspec.Struct):
    data: _Data


_whole = msgspec.json.Decoder(_Whole)


def lines(event: Event, *, coloured: bool) -> list[str]:
    """What changed in this event's object, indented; empty where it says nothing of what was before."""
    data = _whole.decode(event.line).data
    if not bytes(data.previous):
        return []
    operations = between(bytes(data.previous), bytes(data.object))
    found = [
        INDENT + paint(plain(_shortened(text)), colour, coloured=coloured)
        for operation in operations
        if operation.path not in _OF_COURSE
        for text, colour in _told(operation)
    ]
    if len(found) > MOST_LINES:
        found[MOST_LINES:] = [f"{INDENT}… and {len(found) - MOST_LINES} lines more"]
    return found


def _told(operation: Operation) -> Iterator[tuple[str, Colour]]:
    name, old, new = field(operation.path), operation.old, operation.value
    if operation.op == "add":
        yield f"+ {name}: {_value(new)}", "green"
    elif operation.op == "remove":
        yield f"- {name}: {_value(old)}", "red"
    elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        yield f"~ {name}:", "yellow"
        _, _, *rows = unified_diff(old.splitlines(), new.splitlines(), n=1, lineterm="")
        for text in rows:
            if not text.startswith("@@"):
                yield f"    {text}", "green" if text[0] == "+" else "red" if text[0] == "-" else "dim"
    else:
        yield f"~ {name}: {_value(old)} → {_value(new)}", "yellow"


def field(path: Pointer) -> str:
    """`spec.containers[0].image`, `metadata.labels['a.b/c']`."""
    text = ""
    for each in path:
        if isinstance(each, int):
            text += f"[{each}]"
        elif _PLAIN_NAME.fullmatch(each):
            text += f".{each}" if text else each
        else:
            text += f"['{each}']"
    return text


def _value(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
