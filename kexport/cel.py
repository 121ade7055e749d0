"""The door to CEL, the Common Expression Language, by Google's own evaluator: the extra `kexport[cel]`.

An expression is compiled once, and what is wrong with it is shown at its place. Evaluating it never raises
anything but UndecidedError, whose text has no value of the object in it: it goes into logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from kexport import fields
from kexport.errors import ConfigError, KexportError
from kexport.settings import nearest
from kexport.terminal import plain

VARIABLES = frozenset({"object", "previous", "event"})
_WORDS = (
    *VARIABLES, "has", "size", "exists", "exists_one", "all", "filter", "map", "contains", "startsWith",
    "endsWith", "matches", "timestamp", "duration", "int", "double", "string", "lowerAscii", "upperAscii",
    "split", "replace", "orValue", "optMap", "true", "false", "null",
)  # fmt: skip
_PROBLEM = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNKNOWN = re.compile(r"undeclared reference to '(\w+)[^']*'")
_SAYABLE = ("Key not found", "No matching overloads", "Index error", "divide by zero", "Applying SELECT")


class UndecidedError(KexportError):
    """The expression has no answer for this object: a field is missing, or of another type."""


class Program(NamedTuple):
    """A compiled expression, and which fields of the variables it reads."""

    text: str
    reads: Mapping[str, fields.Tree]
    environment: Any
    expression: Any
    answer: Any
    """CEL's type of true and false."""

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Whether the condition is met; raises UndecidedError."""
        try:
            found = self.expression.eval(self.environment.Activation(variables))
            if found.type() == self.answer:
                return bool(found.value())
            why = str(found.value()) if found.type().name() == "ERROR" else f"gives {found.type().name()}"
        except Exception as error:  # noqa: BLE001  (a foreign evaluator must not end a lane)
            why = str(error)
        raise UndecidedError(_without_values(why, self.text))


def _without_values(why: str, text: str) -> str:
    """The evaluator's reason, unless it has something in it that does not stand in the expression itself."""
    why = re.sub(r"^[A-Z_]+: ", "", why.partition("\n")[0])
    quoted = re.findall(r'"([^"]*)"', why)
    if why.startswith(("gives ", *_SAYABLE)) and all(name in text for name in quoted):
        return why[:120]
    return "a value is missing or cannot be used"


@lru_cache(maxsize=256)
def compile(text: str) -> Program:  # noqa: A001  (CEL's own word)
    """The program of an expression that gives true or false; raises ConfigError that shows the mistake."""
    try:
        from cel_expr_python import cel  # noqa: PLC0415  (an extra; nobody else waits for it)
        from cel_expr_python.ext import ext_optional, ext_strings  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError("needs the CEL evaluator, which is not here: pip install 'kexport[cel]'") from error
    environment = cel.NewEnv(
        variables={
            "object": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
            "previous": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
            "event": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
        },
        extensions=[ext_strings.ExtStrings(), ext_optional.ExtOptional()],
    )
    try:
        expression = environment.compile(text)
    except RuntimeError as error:
        raise ConfigError(_explained(text, str(error))) from error
    gives = expression.return_type()
    if gives not in (cel.Type.BOOL, cel.Type.DYN):
        raise ConfigError(f"gives {gives.name()}, where true or false is needed:\n{text}")
    found = fields.read(expression.serialize(), VARIABLES)
    _check_attributes(text, found)
    return Program(text, found.trees, environment, expression, cel.Type.BOOL)


def _explained(text: str, message: str) -> str:
    """The evaluator's complaint in our form, with the place."""
    found = [_complaint(text, each) for each in _PROBLEM.finditer(message)]
    if not found:
        return f"is no CEL expression: {message.partition(': ')[2].removesuffix(' [CANCELLED]') or message}"
    # A misspelt macro makes its variable unknown, too: what one can do something about is said.
    return next((each for each in found if "did you mean" in each), found[0])


def _complaint(text: str, found: re.Match[str]) -> str:
    line, column = int(found[1]), int(found[2])
    problem = found[3].removesuffix(" [INVALID_ARGUMENT]").partition(" expecting ")[0]
    problem = problem.replace("(in container '')", "").strip()
    if "mismatched input '<EOF>'" in problem:
        problem = "the expression ends too early"
    if unknown := _UNKNOWN.search(problem):
        name = unknown[1]
        problem = f"unknown name {name!r}{nearest(name, _WORDS)}"
        start = column - 1 - len(name)
        if text.split("\n")[line - 1][max(0, start) : column - 1] == name:
            column = start + 1  # of a name with a member the evaluator shows the dot
    return _shown(text, line, column, problem)


def _shown(text: str, line: int, column: int, problem: str) -> str:
    """`line 1, column 8: …`, the line itself, and a caret below the place."""
    lines = text.split("\n")
    shown = lines[min(line, len(lines)) - 1]
    before = len(plain(shown[: column - 1]))
    return f"line {line}, column {column}: {problem}\n{plain(shown)}\n{' ' * before}^"


ATTRIBUTES = (
    "change", "namespace", "name",
    "id", "source", "type", "subject", "time", "origin", "cluster", "apiversion", "kind", "resource",
    "objnamespace", "objname", "resourceversion", "sequence", "partitionkey", "epoch",
    "manager", "managertime",
)  # fmt: skip
"""What `event` has: the CloudEvent's attributes, and three under a shorter name; "" where one is absent."""


def _check_attributes(text: str, found: fields.Fields) -> None:
    for use in found.uses.get("event", ()):
        if use.name not in ATTRIBUTES:
            line = text.count("\n", 0, use.offset) + 1
            column = use.offset - (text.rfind("\n", 0, use.offset) + 1) + 1
            problem = (
                f"event has no {use.name!r}{nearest(use.name, ATTRIBUTES)}; it has {', '.join(ATTRIBUTES)}"
            )
            raise ConfigError(_shown(text, line, column + 1, problem))
