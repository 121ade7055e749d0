"""`python -m tests.testbed.chartfiles` writes what is generated in the chart: schema, values table, snapshot.

values.yaml is the one source: the first sentence of the comment above a key is its description.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kexport import plugins, schema
from tests.testbed.helm import CHART, Helm

# The sink types of the image; what else is installed here is no part of it.
IMAGE_TYPES = ("file", "kafka", "otlp", "s3")
_BEGIN, _END = "<!-- values: begin -->\n", "<!-- values: end -->\n"


class Value(NamedTuple):
    """A key of values.yaml: its place, the comment above it, and its default."""

    place: tuple[str, ...]
    comment: str
    default: Any


def values() -> list[Value]:
    """Every key that stands on a line of its own, in the file's order."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    found: list[Value] = []
    comment: list[str] = []
    place: tuple[str, ...] = ()
    for line in text.splitlines():
        if described := re.match(r"\s*# ?(.*)", line):
            comment.append(described[1])
            continue
        if key := re.match(r"( *)([A-Za-z_]+):", line):
            place = (*place[: len(key[1]) // 2], key[2])
            found.append(Value(place, " ".join(comment), _at(defaults, place)))
        comment = []
    return found


def _at(node: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        node = node[key]
    return node


# -- values.schema.json -----------------------------------------------------------------------------------


def values_schema() -> str:
    types = plugins.load().types
    document = schema.document(types[name] for name in IMAGE_TYPES)
    definitions = document.pop("$defs")
    definitions["sink"] = _sink(definitions)
    dialect = document.pop("$schema")
    own = yaml.safe_load((CHART / "chart.schema.yaml").read_text(encoding="utf-8"))
    comments = {value.place: value.comment for value in values()}
    properties = {name: _described(node, (name,), comments) for name, node in own.items()}
    whole = {
        "$schema": dialect,
        "title": "Values of the chart kexport",
        "type": "object",
        "properties": {"config": document, **properties},
        "required": ["config"],
        "additionalProperties": False,
        "$defs": definitions,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _sink(definitions: dict[str, Any]) -> dict[str, Any]:
    """One table decides by its type, so that a message is about this type and no other.

    Of a type that is none of the image's the engine's keys are known; templates refuse it unless it is named.
    """
    known = [
        {
            "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
            "then": {"$ref": f"{schema.REFERENCE}{name}_sink"},
        }
        for name in IMAGE_TYPES
    ]
    engine = definitions["file_sink"]["properties"]
    common = {key: engine[key] for key in ("batch", "retry", "timeout_seconds", "rejects_to")}
    properties = {"type": {"type": "string", "minLength": 1}, **common}
    return {"type": "object", "required": ["type"], "properties": properties, "allOf": known}


def _described(node: dict[str, Any], place: tuple[str, ...], comments: dict[Any, str]) -> dict[str, Any]:
    comment = comments.get(place)
    fresh = {"description": comment, **node} if comment else dict(node)
    if "properties" in node:
        members = node["properties"].items()
        fresh["type"] = "object"
        fresh["properties"] = {key: _described(each, (*place, key), comments) for key, each in members}
        fresh["additionalProperties"] = False
    return fresh


# -- README.md --------------------------------------------------------------------------------------------


def readme() -> str:
    """README.md with the values table as it must be."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    table = "".join(["| key | default | |\n|---|---|---|\n", *_rows()])
    return f"{head}{_BEGIN}{table}{_END}{tail}"


def _rows() -> Iterator[str]:
    """A row for each key that has a comment, or whose table has none that says its default."""
    listed = values()
    for value in listed:
        if not value.comment and len(value.place) > 1 and _is_said(value, listed):
            continue
        default = json.dumps(value.default)
        shown = "" if len(default) > 60 else f"`{default}`"
        yield f"| `{'.'.join(value.place)}` | {shown} | {value.comment} |\n"


def _is_said(value: Value, listed: list[Value]) -> bool:
    """Whether the default of the table around it is short enough to stand in its row."""
    around = next(each for each in listed if each.place == value.place[:-1])
    return len(json.dumps(around.default)) <= 60


def snapshot() -> str:
    """What is made of the least that can be said."""
    with tempfile.TemporaryDirectory() as home:
        return Helm(Path(home)).run(
            "template",
            "kexport",
            CHART,
            "--namespace=kexport",
            "--values",
            CHART / "ci" / "least-values.yaml",
        )


GENERATED = {"values.schema.json": values_schema, "README.md": readme, "ci/snapshot.yaml": snapshot}


def main() -> None:
    for name, make in GENERATED.items():
        (CHART / name).write_text(make(), encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
