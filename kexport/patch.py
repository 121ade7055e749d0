"""What changed between two states of an object, as an RFC 6902 JSON Patch. Pure.

A patch is exact: applied to the state before it gives the state after, to the last resourceVersion. Lists are
aligned by what names their elements (`name`, `type`, …), as people read them: a container that was put first
is one addition, and not a change of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import msgspec

from kexport.paths import Path, fits

Pointer = tuple[str | int, ...]
ALIGNED_ELEMENTS = 500  # beyond this a list is compared place by place: aligning grows with the square
_NAMES = ("name", "type", "key", "uid", "ip", "mountPath", "containerPort", "port", "kind")
_ABSENT: Any = object()

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


class Operation(NamedTuple):
    """One step: `op` is add, remove or replace; `old` is what stood there before (None for an addition)."""

    op: str
    path: Pointer
    value: Any = None
    old: Any = None

    @property
    def document(self) -> dict[str, Any]:
        """As RFC 6902 writes it."""
        path = "".join("/" + str(each).replace("~", "~0").replace("/", "~1") for each in self.path)
        if self.op == "remove":
            return {"op": self.op, "path": path}
        return {"op": self.op, "path": path, "value": self.value}


def between(before: bytes, after: bytes) -> list[Operation]:
    """The steps from one JSON object to the other, to be taken in this order.

    Members of both with the same bytes are not even parsed, nor are those of metadata, spec and status.
    """
    return _compared(*_opened(before, after, levels=2))


def _opened(before: bytes | msgspec.Raw, after: bytes | msgspec.Raw, *, levels: int) -> tuple[Any, Any]:
    """Both objects without the members that are the same; what differs is parsed."""
    old, new = _members.decode(before), _members.decode(after)
    mine: dict[str, Any] = {key: _any.decode(raw) for key, raw in old.items() if key not in new}
    theirs: dict[str, Any] = {}
    for key, raw in new.items():
        was = old.get(key)
        if was == raw:
            continue
        if was is not None and levels > 1 and _is_object(was) and _is_object(raw):
            mine[key], theirs[key] = _opened(was, raw, levels=levels - 1)
            continue
        theirs[key] = _any.decode(raw)
        if was is not None:
            mine[key] = _any.decode(was)
    return mine, theirs


def _is_object(raw: msgspec.Raw) -> bool:
    return memoryview(raw)[0] == ord("{")


def _compared(before: Any, after: Any) -> list[Operation]:
    """Not recursive: objects may be nested deeper than Python's stack."""
    operations: list[Operation] = []
    todo: list[Operation | tuple[Pointer, Any, Any]] = [((), before, after)]
    while todo:
        step = todo.pop()
        if isinstance(step, Operation):
            operations.append(step)
            continue
        path, old, new = step
        if isinstance(old, dict) and isinstance(new, dict):
            todo += reversed([*_in_objects(path, old, new)])
        elif isinstance(old, list) and isinstance(new, list):
            todo += reversed([*_in_lists(path, old, new)])
        elif not _same(old, new):
            operations.append(Operation("replace", path, new, old))
    return operations


def _in_objects(
    path: Pointer, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Operation | tuple[Pointer, Any, Any]]:
    for key, value in old.items():
        if key not in new:
            yield Operation("remove", (*path, key), old=value)
    for key, value in new.items():
        before = old.get(key, _ABSENT)
        if before is _ABSENT:
            yield Operation("add", (*path, key), value)
        else:
            yield (*path, key), before, value


def _in_lists(
    path: Pointer, old: Sequence[Any], new: Sequence[Any]
) -> Iterator[Operation | tuple[Pointer, Any, Any]]:
    """From the end to the beginning, so that no step moves what a later one speaks of."""
    for low, high, left, right in reversed(_stretches(old, new)):
        common = min(high - low, right - left)
        for index in reversed(range(low + common, high)):
            yield Operation("remove", (*path, index), old=old[index])
        for index in reversed(range(left + common, right)):
            yield Operation("add", (*path, low + common), new[index])
        for offset in reversed(range(common)):
            yield _in_place((*path, low + offset), old[low + offset], new[left + offset])


def _in_place(path: Pointer, old: Any, new: Any) -> Operation | tuple[Pointer, Any, Any]:
    """Something else under another name is replaced whole: nobody reads it as a change of each field."""
    named = isinstance(old, dict) and isinstance(new, dict)
    return Operation("replace", path, new, old) if named and _name(old) != _name(new) else (path, old, new)


def _stretches(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[int, int, int, int]]:
    """Which parts of `old` became which parts of `new`: (from, to, from, to), in order."""
    if len(old) == len(new) or max(len(old), len(new)) > ALIGNED_ELEMENTS:
        return [(0, len(old), 0, len(new))]
    names = [_name(each) for each in old], [_name(each) for each in new]
    return [codes[1:] for codes in SequenceMatcher(None, *names, autojunk=False).get_opcodes()]


def _name(element: Any) -> bytes:
    """What tells an element of a list from its neighbours."""
    if isinstance(element, dict):
        for name in _NAMES:
            if name in element:
                return _encode((name, element[name]))
    return _encode(element)


def _same(old: Any, new: Any) -> bool:
    """To Python 1, 1.0 and true are one; to JSON they are not."""
    return type(old) is type(new) and bool(old == new)


# -- what is no change worth telling ----------------------------------------------------------------------


def covered(operations: Iterable[Operation], patterns: Iterable[Path]) -> bool:
    """Whether nothing changed but fields that some path leads to, as in transforms."""
    known = tuple(patterns)
    return all(_covered(each, known) for each in operations)


def _covered(operation: Operation, patterns: Sequence[Path]) -> bool:
    todo: list[tuple[Pointer, Any]] = []
    if operation.op != "remove":
        todo.append((operation.path, operation.value))
    if operation.op != "add":
        todo.append((operation.path, operation.old))
    while todo:
        path, value = todo.pop()
        if any(len(each) <= len(path) and _matches(each, path) for each in patterns):
            continue
        if not isinstance(value, dict) or not any(
            len(each) > len(path) and _matches(each, path) for each in patterns
        ):
            return False
        todo += [((*path, key), inner) for key, inner in value.items()]
    return True


def _matches(pattern: Path, path: Pointer) -> bool:
    """As far as both go."""
    return all(fits(each, str(name)) for each, name in zip(pattern, path, strict=False))
