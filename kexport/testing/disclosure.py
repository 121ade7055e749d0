"""A sink's settings as documentation and as secrets: are they described, closed, and never told?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from kexport.sink import SinkConfig

C = TypeVar("C", bound=SinkConfig)

_SECRET = re.compile(r"(^|_)(password|passphrase|token|secret|key|credentials?)s?(_|$)")
_NO_SECRET = re.compile(r"_(id|file|path|folder|name|prefix|mechanism|template|seconds)$")


def secret_settings(config: SinkConfig) -> list[str]:
    """The settings whose name sounds like a secret and whose value is text."""
    return [
        each.name
        for each in _fields(type(config))
        if _SECRET.search(each.name) and not _NO_SECRET.search(each.name) and _takes_text(each.type)
    ]


def with_secrets(config: C, marker: str) -> C:
    """The same settings, with the marker for every secret."""
    return msgspec.structs.replace(config, **dict.fromkeys(secret_settings(config), marker))


def undescribed(config: type[SinkConfig]) -> list[str]:
    """The settings without a description, those of tables inside as `table.setting`."""
    return list(_undescribed(config, ""))


def open_tables(config: type[SinkConfig]) -> list[str]:
    """The structs of the settings that take any key."""
    return [each.__name__ for each in _structs(config) if not each.__struct_config__.forbid_unknown_fields]


def accepts(config: SinkConfig, **more: object) -> bool:
    """Whether these settings with some more, as they'd come from TOML, are taken."""
    table = {key: value for key, value in _table(config).items() if value is not None}
    try:
        msgspec.convert({**table, **more}, type(config))
    except msgspec.ValidationError:
        return False
    return True


def _table(config: SinkConfig) -> Mapping[str, Any]:
    table: Mapping[str, Any] = msgspec.to_builtins(config)
    return table


def _fields(config: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    kind = msgspec.inspect.type_info(config)
    assert isinstance(kind, msgspec.inspect.StructType)
    return kind.fields


def _takes_text(kind: msgspec.inspect.Type) -> bool:
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(map(_takes_text, kind.types))
    return isinstance(kind, msgspec.inspect.StrType)


def _undescribed(config: type[msgspec.Struct], place: str) -> Iterator[str]:
    for each in _fields(config):
        kind = each.type
        described = False
        while isinstance(kind, msgspec.inspect.Metadata):
            described = described or bool((kind.extra_json_schema or {}).get("description"))
            kind = kind.type
        if not described:
            yield place + each.encode_name
        for inner in _inside(kind):
            yield from _undescribed(inner, f"{place}{each.encode_name}.")


def _structs(config: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    yield config
    for each in _fields(config):
        for inner in _inside(each.type):
            yield from _structs(inner)


def _inside(kind: msgspec.inspect.Type) -> Iterator[type[msgspec.Struct]]:
    """The structs that a setting's type consists of."""
    if isinstance(kind, msgspec.inspect.Metadata):
        yield from _inside(kind.type)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for each in kind.types:
            yield from _inside(each)
    elif isinstance(kind, msgspec.inspect.DictType):
        yield from _inside(kind.value_type)
    elif isinstance(kind, msgspec.inspect.StructType):
        yield kind.cls
    elif isinstance(kind, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        yield from _inside(kind.item_type)
