"""A YAML file of another program, of which nothing may be lost unsaid.

Each value knows its place, its line and whether it was used; what was not is found at the end. A wrong shape
or an unknown key is a ConfigError with the line. Anchors and merge keys are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import yaml

from kexport.errors import ConfigError
from kexport.settings import nearest

MOST_VALUES: Final = 100_000  # aliases of aliases can make a short file endless
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"

Expand = Callable[[str], str]


class Value:
    """One value: a text, a list or a table; `place` is written as in routes[0].match."""

    def __init__(self, place: str, line: int, expand: Expand) -> None:
        self.place = place
        self.line = line
        self.text_or_none: str | None = None
        self.items: list[Value] = []
        self.members: dict[str, Value] = {}
        self.kind = "text"
        self._expand = expand
        self._used = False

    def error(self, problem: str) -> ConfigError:
        return self.error_at(self.line, problem)

    def error_at(self, line: int, problem: str) -> ConfigError:
        where = f"line {line}: {self.place}" if self.place else f"line {line}"
        return ConfigError(f"{where}: {problem}")

    @property
    def name(self) -> str:
        """The last word of the place."""
        return self.place.rpartition(".")[2]

    # -- reading --------------------------------------------------------------------------------------------

    def text(self) -> str:
        self._must_be("text")
        self._used = True
        return self._expanded(self.text_or_none or "")

    def number(self) -> float:
        text = self.text()
        try:
            return float(text)
        except ValueError as error:
            raise self.error(f"expected a number, got {text!r}") from error

    def flag(self) -> bool:
        text = self.text()
        if text.lower() not in {"true", "false"}:
            raise self.error(f"expected true or false, got {text!r}")
        return text.lower() == "true"

    def texts(self) -> list[str]:
        return [each.text() for each in self.list()]

    def list(self) -> Sequence[Value]:
        self._must_be("list")
        self._used = self._used or not self.items
        return self.items

    def table(self, known: Iterable[str] | None = None) -> dict[str, Value]:
        """The members; raises ConfigError for one that is not among the `known` ones."""
        self._must_be("table")
        self._used = self._used or not self.members
        if known is not None:
            names = list(known)
            for name, member in self.members.items():
                if name not in names:
                    raise member.error(f"unknown key{nearest(name, names)}; known: {', '.join(names)}")
        return self.members

    def get(self, *path: str) -> Value | None:
        """What stands at this path below, if it is there and not empty."""
        found: Value = self
        for name in path:
            if found.kind == "empty" or (member := found.table().get(name)) is None:
                return None
            found = member
        if found.kind == "empty":
            found.use()
            return None
        return found

    # -- what became of it ----------------------------------------------------------------------------------

    def use(self) -> Value:
        """All of it has been translated or explained."""
        self._used = True
        for each in self._below():
            each.use()
        return self

    def leaves(self) -> Iterator[Value]:
        """What is at the ends below: texts, and what is empty."""
        if not (self.items or self.members):
            yield self
        for each in self._below():
            yield from each.leaves()

    def unused(self) -> Iterator[Value]:
        """The outermost values of which nothing was used."""
        if self._used and self.kind in {"text", "empty"}:
            return
        if not self._touched():
            yield self
            return
        for each in self._below():
            yield from each.unused()

    def _touched(self) -> bool:
        return self._used or any(each._touched() for each in self._below())  # noqa: SLF001

    def _below(self) -> Iterator[Value]:
        yield from self.items
        yield from self.members.values()

    def _must_be(self, kind: str) -> None:
        if self.kind != kind:
            got = "nothing" if self.kind == "empty" else f"a {self.kind}"
            raise self.error(f"expected a {kind}, got {got}")

    def _expanded(self, text: str) -> str:
        try:
            return self._expand(text)
        except ConfigError as error:
            raise self.error(str(error)) from error


def read(text: str, expand: Expand) -> Value:
    """The document; raises ConfigError. `expand` writes a text's variables as kexport's `${NAME}`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_broken(error, text)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError("is nested too deep") from error
    if root is None:
        raise ConfigError("is empty")
    value = _Reader(expand).value(root, "", ())
    if value.kind != "table":
        raise value.error(f"expected a table, got a {value.kind}")
    if {"apiVersion", "kind"} <= value.members.keys():
        kind = value.members["kind"].text_or_none
        raise value.error(f"is a manifest ({kind}): give the configuration that stands inside it, alone")
    return value


def _broken(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"is not valid YAML: {error.problem}"
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = "; put a value that begins with {{ in quotes" if "{{" in line else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: is not valid YAML: {error.problem}{hint}"


class _Reader:
    """Composed nodes -> values, aliases included."""

    def __init__(self, expand: Expand) -> None:
        self._expand = expand
        self._count = 0

    def value(self, node: yaml.Node, place: str, around: tuple[int, ...]) -> Value:
        fresh = Value(place, node.start_mark.line + 1, self._expand)
        self._count += 1
        if self._count > MOST_VALUES:
            raise fresh.error(f"the file has more than {MOST_VALUES} values, its aliases counted")
        if id(node) in around:
            raise fresh.error("an alias leads back into itself")
        inside = (*around, id(node))
        if isinstance(node, yaml.SequenceNode):
            fresh.kind = "list"
            fresh.items = [
                self.value(each, f"{place}[{number}]", inside) for number, each in enumerate(node.value)
            ]
        elif isinstance(node, yaml.MappingNode):
            fresh.kind = "table"
            fresh.members = self._members(node, fresh, inside)
        elif node.tag == _NULL:
            fresh.kind = "empty"
        else:
            fresh.text_or_none = node.value
        return fresh

    def _members(self, node: yaml.MappingNode, owner: Value, around: tuple[int, ...]) -> dict[str, Value]:
        own: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key, each in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                for name, value in self._merged(each, owner, around).items():
                    merged.setdefault(name, value)
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise owner.error_at(line, "a key must be a text; put a value that begins with {{ in quotes")
            place = f"{owner.place}.{key.value}" if owner.place else key.value
            if key.value in own:
                raise ConfigError(f"line {line}: {place}: stands here a second time")
            own[key.value] = self.value(each, place, around)
            own[key.value].line = line
        return {**merged, **own}

    def _merged(self, node: yaml.Node, owner: Value, around: tuple[int, ...]) -> dict[str, Value]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Value] = {}
        for each in nodes:
            if not isinstance(each, yaml.MappingNode):
                line = each.start_mark.line + 1
                raise ConfigError(f"line {line}: {owner.place}: << takes a table, or a list of tables")
            if id(each) in around:
                raise owner.error("an alias leads back into itself")
            for name, value in self._members(each, owner, (*around, id(each))).items():
                found.setdefault(name, value)
        return found
