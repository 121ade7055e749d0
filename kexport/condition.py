"""What a route may ask of an event's data: labels, and a CEL expression. Nothing else of it is decoded.

An answer is kept for a while, so that routes and sinks that ask the same of the same event share it.
"""

from __future__ import annotations

from typing import Any, Generic, TypedDict, TypeVar

import msgspec

from kexport import cel, fields, selector
from kexport.cel import Program, UndecidedError
from kexport.event import Event

MOST_ANSWERS = 4096
_T = TypeVar("_T")


class _Labelled(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Object(msgspec.Struct):
    metadata: _Labelled = msgspec.field(default_factory=_Labelled)


class _Data(msgspec.Struct, Generic[_T]):
    object: _T


class _Line(msgspec.Struct, Generic[_T]):
    data: _Data[_T]


_labels = msgspec.json.Decoder(_Line[_Object])
_whole = msgspec.json.Decoder(dict[str, Any])
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def labels_of(event: Event) -> dict[str, str]:
    """The labels of the event's object; raises UndecidedError where they are none: after a `hash`, say."""
    try:
        return _labels.decode(event.line).data.object.metadata.labels or {}
    except _UNREADABLE as error:
        raise UndecidedError("metadata.labels cannot be read") from error


class Where:
    """A compiled expression and its answers."""

    def __init__(self, text: str) -> None:
        self._program = cel.compile(text)
        self._decoder = _decoder(self._program)
        # An answer, or why there is none: an exception would keep what its traceback has seen.
        self._answers: dict[tuple[int, str], bool | str] = {}

    def holds(self, event: Event) -> bool:
        """Whether the event meets the condition; raises UndecidedError."""
        key = (event.position, event.id)
        answer = self._answers.get(key)
        if answer is None:
            if len(self._answers) >= MOST_ANSWERS:
                self._answers.clear()
            answer = self._answers[key] = self._ask(event)
        if isinstance(answer, str):
            raise UndecidedError(answer)
        return answer

    def _ask(self, event: Event) -> bool | str:
        try:
            return self._program.holds(self._variables(event))
        except UndecidedError as error:
            return str(error)
        except _UNREADABLE:
            return "the object cannot be read"

    def _variables(self, event: Event) -> dict[str, Any]:
        reads, found = self._program.reads, {}
        if self._decoder:
            try:
                data = self._decoder.decode(event.line)["data"]
            except msgspec.ValidationError:  # something is no object where the expression takes it for one
                data = _whole.decode(event.line)["data"]
            found = {name: data.get(name, {}) for name in ("object", "previous") if name in reads}
        if "event" in reads:
            found["event"] = _attributes(event, reads["event"])
        return found


def _decoder(program: Program) -> msgspec.json.Decoder[dict[str, Any]] | None:
    """Reads what the program needs of an event's `data`; None if that is nothing."""
    members = {
        name: fields.type_of(tree) for name, tree in program.reads.items() if name in {"object", "previous"}
    }
    if not members:
        return None
    data = TypedDict("Data", members, total=False)  # type: ignore[misc]  # made while it runs
    return msgspec.json.Decoder(TypedDict("Line", {"data": data}))  # type: ignore[operator]  # likewise


def _attributes(event: Event, tree: fields.Tree) -> dict[str, str]:
    whole = tree.whole or fields.ELEMENT in tree
    names = cel.ATTRIBUTES if whole else [name for name in tree if name]
    return {name: _attribute(event, name) for name in names}


def _attribute(event: Event, name: str) -> str:
    if name == "change":
        return event.change
    name = {"namespace": "objnamespace", "name": "objname"}.get(name, name)
    return str(getattr(event.attributes, name))


def meets(labels: selector.Selector, event: Event) -> bool:
    """Whether the labels of the event's object meet the selector; raises UndecidedError."""
    return selector.admits(labels, labels_of(event))
