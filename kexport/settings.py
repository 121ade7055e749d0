"""Helpful refusals: which key is unknown, what it may have been meant to be, and where it stands."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from kexport.errors import ConfigError

_WORDS = {
    "object": "a table",
    "array": "an array",
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}


def check_keys(table: object, struct: type[msgspec.Struct], *, place: str) -> None:
    """Raise ConfigError for the first key, at any depth, that `struct` doesn't have."""
    if not isinstance(table, Mapping):
        return
    hints = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in table.items():
        here = f"{place}.{key}" if place else key
        if key not in hints:
            where = f"{place}: " if place else ""
            raise ConfigError(f"{where}unknown key {key!r}{nearest(key, hints)}; known: {', '.join(hints)}")
        _check_choice(value, hints[key], here)
        inner = _struct_in(hints[key])
        if inner is None:
            continue
        if isinstance(value, list):
            for number, each in enumerate(value):
                check_keys(each, inner, place=f"{here}[{number}]")
        else:
            check_keys(value, inner, place=here)


def _check_choice(value: object, hint: Any, place: str) -> None:
    """Raise ConfigError for a text that is none of a Literal's, with the choices; in a list for each."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    inner = typing.get_args(hint)
    if isinstance(value, list | tuple) and typing.get_origin(hint) in {list, tuple} and inner:
        for number, each in enumerate(value):
            _check_choice(each, inner[0], f"{place}[{number}]")
        return
    if not isinstance(value, str) or str in inner:
        return
    # `bool | Literal["patch"]`: the whole of it is shown, the texts are what may be misspelt.
    literals = (
        [hint]
        if typing.get_origin(hint) is typing.Literal
        else [each for each in inner if typing.get_origin(each) is typing.Literal]
    )
    choices = [choice for each in literals for choice in typing.get_args(each)]
    if choices and value not in choices:
        known = ", ".join([*(["true", "false"] if bool in inner else []), *map(repr, choices)])
        raise ConfigError(f"{place}: unknown choice {value!r}{nearest(value, choices)}; choices: {known}")


def _struct_in(hint: Any) -> type[msgspec.Struct] | None:
    """The struct that a field is, or is a list of."""
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        return hint if issubclass(hint, msgspec.Struct) else None
    if typing.get_origin(hint) is dict:
        return None
    for argument in typing.get_args(hint):
        if (found := _struct_in(argument)) is not None:
            return found
    return None


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'topic'?`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def reword(message: str, place: str) -> str:
    """msgspec's sentence with our way to name a place: `sinks.a.batch.max_events: expected int, got str`."""
    problem, key, path = message.partition(" - at `key` in `$")
    if not key:
        problem, _, path = message.partition(" - at `$")
    path = re.sub(r"\[\.\.\.\]", "", path.rstrip("`")).lstrip(".")
    if path.startswith("key in "):
        path = path.removeprefix("key in ")
    where = ".".join(part for part in (place, path) if part) if not path.startswith("[") else place + path
    sentence = ("a name in it: " if key else "") + _in_toml_words(problem[:1].lower() + problem[1:])
    return f"{where}: {sentence}" if where else sentence


def _in_toml_words(problem: str) -> str:
    """`object` and `str` are JSON's and Python's words; the reader has a TOML file open."""
    problem = re.sub(r"^object missing required field `(.*)`", r"the key '\1' is missing", problem)
    return re.sub(
        r"`([a-z |]+)`",
        lambda found: " or ".join(_WORDS.get(word, word) for word in found[1].split(" | ")),
        problem,
    )
