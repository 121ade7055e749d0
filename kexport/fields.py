"""Which fields a compiled CEL expression reads, and a decoder that reads no others.

The compiled form is a CheckedExpr of CEL's public protobuf definitions (cel/expr/syntax.proto and
checked.proto); the few messages that matter are walked here by their field numbers. A name that is not
followed further is needed whole, so that what cannot be told apart is decoded, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

# Field numbers. CheckedExpr and its envelope (google.protobuf.Any):
_ANY_VALUE, _CHECKED_EXPR, _CHECKED_SOURCE, _SOURCE_POSITIONS = 2, 4, 5, 4
# Expr, by kind:
_ID, _CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 2, 3, 4, 5, 6, 7, 8, 9
_STRING, _INTEGERS = 6, (3, 4)
_INDEXING = frozenset({"_[_]", "_?._", "_[?_]"})
ELEMENT = None
"""The key under which a tree has what is read of each element of a list."""


class Tree(dict["str | None", "Tree"]):
    """What is read below a field; `whole`: all of it."""

    whole = False

    def down(self, key: str | None) -> Tree:
        return self.setdefault(key, Tree())


class Use(NamedTuple):
    """A member that is selected from a variable, and where the expression says so (characters from 0)."""

    name: str
    offset: int


class Fields(NamedTuple):
    """For each variable that is mentioned what is read of it, and its members by name."""

    trees: Mapping[str, Tree]
    uses: Mapping[str, list[Use]]


def read(compiled: bytes, variables: frozenset[str]) -> Fields:
    """What an expression reads of these variables."""
    checked = _message(_message(compiled)[_ANY_VALUE][0])
    source = _message(checked[_CHECKED_SOURCE][0])
    positions = {}
    for each in source.get(_SOURCE_POSITIONS, ()):
        entry = _message(each)
        positions[entry.get(1, [0])[0]] = entry.get(2, [0])[0]
    walker = _Walker(variables, positions)
    walker.whole(checked[_CHECKED_EXPR][0], {})
    return Fields(walker.trees, walker.uses)


_Scope = dict[str, "Tree | None"]


class _Walker:
    """Follows selections from a variable; `scope` has what the variables of macros stand for."""

    def __init__(self, variables: frozenset[str], positions: Mapping[int, int]) -> None:
        self._variables = variables
        self._positions = positions
        self.trees: dict[str, Tree] = {}
        self.uses: dict[str, list[Use]] = {}

    def whole(self, text: bytes, scope: _Scope) -> None:
        """The value of this expression is needed, with all that is in it."""
        tree = self._follow(text, scope)
        if tree is not None:
            tree.whole = True

    def _follow(self, text: bytes, scope: _Scope) -> Tree | None:
        """The place in a tree that an expression leads to; None for a value that is computed."""
        node = _message(text)
        if _IDENT in node:
            return self._variable(_name(node[_IDENT][0], 1), scope)
        if _SELECT in node:
            select = _message(node[_SELECT][0])
            return self._member(select[1][0], _text(select[2][0]), node[_ID][0], scope)
        if _CALL in node:
            return self._call(_message(node[_CALL][0]), node[_ID][0], scope)
        if _COMPREHENSION in node:
            self._comprehension(_message(node[_COMPREHENSION][0]), scope)
        for element in _message(node[_LIST][0]).get(1, ()) if _LIST in node else ():
            self.whole(element, scope)
        for entry in _message(node[_STRUCT][0]).get(2, ()) if _STRUCT in node else ():
            for part in (*_message(entry).get(3, ()), *_message(entry).get(4, ())):
                self.whole(part, scope)
        return None

    def _variable(self, name: str, scope: _Scope) -> Tree | None:
        if name in scope:
            return scope[name]
        return self.trees.setdefault(name, Tree()) if name in self._variables else None

    def _member(self, operand: bytes, name: str, number: int, scope: _Scope) -> Tree | None:
        tree = self._follow(operand, scope)
        if tree is None:
            return None
        for variable, root in self.trees.items():
            if root is tree:
                self.uses.setdefault(variable, []).append(Use(name, self._positions.get(number, 0)))
        return tree.down(name)

    def _call(self, call: Mapping[int, Any], number: int, scope: _Scope) -> Tree | None:
        arguments = call.get(3, [])
        if _text(call[2][0]) in _INDEXING and len(arguments) == 2:
            constant = _message(_message(arguments[1]).get(_CONST, [b""])[0])
            if _STRING in constant:
                return self._member(arguments[0], _text(constant[_STRING][0]), number, scope)
            if any(kind in constant for kind in _INTEGERS):
                tree = self._follow(arguments[0], scope)
                return None if tree is None else tree.down(ELEMENT)
        for part in (*call.get(1, ()), *arguments):
            self.whole(part, scope)
        return None

    def _comprehension(self, node: Mapping[int, Any], scope: _Scope) -> None:
        """exists, all, filter, map: the variable stands for an element, or for a map's key."""
        names = [_text(node[key][0]) for key in (1, 8) if key in node]
        tree = self._follow(node[2][0], scope)
        if tree is not None and len(names) == 1:
            inner: _Scope = {**scope, names[0]: tree.down(ELEMENT)}
        else:
            if tree is not None:
                tree.whole = True
            inner = {**scope, **dict.fromkeys(names)}
        self.whole(node[4][0], scope)
        inner[_text(node[3][0])] = None
        for key in (5, 6, 7):
            self.whole(node[key][0], inner)


def _name(text: bytes, number: int) -> str:
    return _text(_message(text)[number][0])


def _text(value: bytes) -> str:
    return value.decode()


def _message(text: bytes) -> dict[int, list[Any]]:
    """The fields of a protobuf message by their number: integers, or bytes that are a message or a text."""
    found: dict[int, list[Any]] = {}
    for number, value in _wire(text):
        found.setdefault(number, []).append(value)
    return found


def _wire(text: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(text):
        tag, at = _varint(text, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(text, at)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, at = _varint(text, at)
        yield number, text[at : at + size]
        at += size


def _varint(text: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = text[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def type_of(tree: Tree) -> Any:
    """A type for msgspec that decodes what the tree reads, and skips the rest; None always passes."""
    names = [key for key in tree if key is not None]
    if tree.whole or (names and ELEMENT in tree) or not tree:
        return Any
    if not names:
        element = type_of(tree[ELEMENT])
        return list[element] | dict[str, Any] | None  # type: ignore[valid-type]  # made while it runs
    members = {name: type_of(tree[name]) for name in names}
    return TypedDict("Members", members, total=False) | None  # type: ignore[operator]  # likewise
