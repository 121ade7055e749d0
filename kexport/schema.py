"""The JSON Schema (draft 2020-12) of config.toml, the settings of the installed sinks included.

Closed at every level, as the parser is. What a schema cannot say, the parser still checks: that routes and
`rejects_to` name sinks that are there, field paths, selectors and expressions, and what a sink finds out when
it opens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kexport.config import engine_fields
from kexport.sink import SinkType
from kexport.tables import Root

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "#/$defs/"
# A string may come from the environment or a file as a whole, whatever is demanded of it.
_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}"}
_DEMANDS = {"enum", "pattern", "minLength", "maxLength"}


def components(*kinds: SinkType[Any]) -> dict[str, Any]:
    """The schema of every table by its name; that of a sink type is called `<type>_sink`."""
    structs = [Root, *map(engine_fields, kinds)]
    _, found = msgspec.json.schema_components(structs, ref_template=REFERENCE + "{name}")
    return dict(found)


def document(kinds: Iterable[SinkType[Any]]) -> dict[str, Any]:
    """The whole schema; without an installed sink type nothing is a valid configuration."""
    kinds = sorted(kinds, key=lambda kind: kind.name)
    definitions = {name: _with_variables(each) for name, each in components(*kinds).items()}
    for kind in kinds:
        # The type decides which table it is, so here it has to stand as itself.
        definitions[f"{kind.name}_sink"]["properties"]["type"] = {
            "description": "Which plugin.",
            "const": kind.name,
        }
    root = definitions.pop("Root")
    root["properties"]["sinks"] = {
        "description": "Where to write; one table for each sink, under a name of your own.",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": REFERENCE + "sink"},
    }
    definitions["sink"] = _sink(kinds)
    return {
        "$schema": DIALECT,
        **root,
        "title": "config.toml",
        "description": "The configuration of kexport.",
        "$defs": definitions,
    }


def _sink(kinds: Iterable[SinkType[Any]]) -> dict[str, Any]:
    names = {kind.name: f"{REFERENCE}{kind.name}_sink" for kind in kinds}
    if not names:
        return {"not": {}, "description": "No sink type is installed: pip install kexport-file, for example."}
    return {
        "type": "object",
        "required": ["type"],
        "oneOf": [{"$ref": reference} for reference in names.values()],
        # An annotation for editors and generators; validators go by the const in each table.
        "discriminator": {"propertyName": "type", "mapping": names},
    }


def _with_variables(node: Any) -> Any:
    """The same schema, but `${NAME}` passes wherever a string has to be a certain one."""
    if isinstance(node, list):
        return [_with_variables(each) for each in node]
    if not isinstance(node, dict):
        return node
    # A default is a value and no schema, though it may look like one.
    fresh = {key: each if key == "default" else _with_variables(each) for key, each in node.items()}
    if _DEMANDS & fresh.keys() and _is_text(fresh):
        kept = {key: fresh.pop(key) for key in ("description", "default", "title") if key in fresh}
        return {**kept, "anyOf": [fresh, dict(_VARIABLE)]}
    return fresh


def _is_text(node: dict[str, Any]) -> bool:
    if "enum" in node:
        return all(isinstance(value, str) for value in node["enum"])
    return node.get("type") == "string"


def type_words(field: dict[str, Any]) -> str:
    """A field's type in TOML's words: string, integer, array of string, "full" | "normal"."""
    if "const" in field:
        return f'"{field["const"]}"'
    if "enum" in field:
        return " | ".join(f'"{value}"' for value in field["enum"])
    if "anyOf" in field:
        kinds = (each for each in field["anyOf"] if each.get("type") != "null")
        return " | ".join(type_words(each) for each in kinds)
    names = {"number": "float", "array": "array", "object": "table"}
    name = names.get(field.get("type", ""), field.get("type", "table"))
    if name == "array" and isinstance(field.get("items"), dict):
        return f"array of {type_words(field['items'])}"
    return str(name)
