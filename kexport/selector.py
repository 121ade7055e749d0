"""Label selectors: the grammar of `kubectl -l`, and whether labels meet them.

`!=` and `notin` also admit what lacks the label. What the API server would refuse is refused here, with the
same strictness about names and values, so that a typing error is no selector that matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from kexport.errors import ConfigError

_TOKEN = re.compile(r"\s*(==|!=|[=!<>(),]|[^\s=!<>(),]+)")
_SPECIAL = frozenset({"==", "!=", "=", "!", "<", ">", "(", ")", ",", ""})
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_PREFIX = re.compile(r"(?=.{1,253}/)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_OPERATORS = ("=", "==", "!=", "in", "notin", "<", ">")


class SelectorError(ConfigError):
    """A selector that nobody can understand; `term` is the part that is wrong."""

    def __init__(self, message: str, *, term: str) -> None:
        super().__init__(message)
        self.term = term


class Requirement(msgspec.Struct, frozen=True):
    """One condition on one label."""

    key: str
    values: frozenset[str] | None
    """None: any value will do, the key has to be there."""
    negated: bool = False
    above: int | None = None
    below: int | None = None

    def met_by(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if value is None:
            return self.negated
        if self.above is not None or self.below is not None:
            return self._between(value)
        return (self.values is None or value in self.values) != self.negated

    def _between(self, value: str) -> bool:
        if not _WHOLE.fullmatch(value):
            return False
        number = int(value)
        return (self.above is None or number > self.above) and (self.below is None or number < self.below)


Selector = tuple[Requirement, ...]
"""All of them must be met; an empty one admits everything."""


def admits(selector: Selector, labels: Mapping[str, str]) -> bool:
    return all(requirement.met_by(labels) for requirement in selector)


def parse(text: str) -> Selector:
    """The selector that `text` says; raises SelectorError."""
    if not text.strip():
        return ()
    parser = _Parser(text)
    found = [parser.requirement()]
    while parser.next(expected=", or the end", among=(",", "")):
        found.append(parser.requirement())
    return tuple(found)


class _Parser:
    """Reads one requirement after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def _look(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        return found[1] if found else ""

    def _take(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        self._at = found.end() if found else len(self._text)
        return found[1] if found else ""

    def next(self, *, expected: str, among: tuple[str, ...]) -> str:
        """The next token, which must be one of these; "" at the end."""
        token = self._take()
        if token not in among:
            raise self._wrong(token, expected)
        return token

    def _wrong(self, token: str, expected: str) -> SelectorError:
        found = repr(token) if token else "its end"
        message = f"label selector {self._text!r}: found {found} where {expected} belongs"
        return SelectorError(message, term=token or self._text)

    def requirement(self) -> Requirement:
        absent = self._look() == "!" and bool(self._take())
        key = self._key()
        if absent or self._look() in {"", ","}:
            return Requirement(key, None, negated=absent)
        operator = self.next(expected="in, notin, =, ==, !=, < or >", among=_OPERATORS)
        if operator in {"in", "notin"}:
            return Requirement(key, self._set(), negated=operator == "notin")
        value = "" if self._look() in {"", ","} else self._value()
        if operator in {"<", ">"}:
            return self._compared(key, operator, value)
        return Requirement(key, frozenset({value}), negated=operator == "!=")

    def _compared(self, key: str, operator: str, value: str) -> Requirement:
        if not _WHOLE.fullmatch(value):
            raise self._wrong(value, "a whole number")
        above, below = (int(value), None) if operator == ">" else (None, int(value))
        return Requirement(key, None, above=above, below=below)

    def _set(self) -> frozenset[str]:
        self.next(expected="(", among=("(",))
        values = [self._listed()]
        if self._look() == ")" and not values[0]:
            raise self._wrong(")", "a value")
        while self.next(expected=", or )", among=(",", ")")) == ",":
            values.append(self._listed())
        return frozenset(values)

    def _listed(self) -> str:
        return "" if self._look() in {",", ")"} else self._value()

    def _key(self) -> str:
        key = self._take()
        prefix = _PREFIX.match(key)
        name = key[prefix.end() :] if prefix else key
        if key in _SPECIAL or key in {"in", "notin"} or not name or not _VALUE.fullmatch(name):
            raise self._wrong(key, "a label's name")
        return key

    def _value(self) -> str:
        value = self._take()
        if value in _SPECIAL or not _VALUE.fullmatch(value):
            raise self._wrong(value, "a label's value (at most 63 letters, digits, -, _ and .)")
        return value
