"""`python -m tests.testbed.docfiles` writes what is generated in docs/: events, schema, configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from kexport import describe, eventschema, plugins, schema
from kexport.event import Attributes, Event, splice
from tests.testbed.examples import TIME, examples

DOCS = Path(__file__).parents[2] / "docs"
# What comes with this repository; what else is installed here is no part of it.
SINKS = ("file", "kafka", "otlp", "s3", "webhook", "slack")
_HOW = "Written by `python -m tests.testbed.docfiles`; a test compares.\n"


# -- events.md ----------------------------------------------------------------------------------------------


def _dated(event: Event) -> Event:
    """With the time of these pages: an example must not change by itself."""
    return splice(msgspec.structs.replace(event.attributes, time=TIME), event.data_json)


def _shown(event: Event) -> str:
    """The event as JSON, an attribute a line."""
    lines = [
        f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in json.loads(event.encode()).items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}"


_EVENTS = """\
# Events

Every type of event that kexport sends, and every attribute. An event is a CloudEvent 1.0; this is structured
mode, one JSON object. In binary mode `data` is the body, and the attributes are headers. The promises are in
[ARCHITECTURE.md](../ARCHITECTURE.md#guarantees).

The JSON Schema is [event.schema.json](event.schema.json), and what this prints:

```
kexport schema --event
```

{how}
## Attributes

| attribute | | |
|---|---|---|
{attributes}

Ids, so that a consumer can tell what it has seen:

| event | `id` |
|---|---|
| added, modified | `<uid>/<resourceVersion>` |
| deleted | `<uid>/deleted`, since a uid dies only once |
| left | `<uid>/<resourceVersion>/left` |
| of a stream | `<stream>/gap/<from>-<to>`, `<stream>/synced/<version>`, … |
| after the history was set back | the same, and `/epoch-<n>` |

## Types

{types}
"""


def events() -> str:
    required = {field.name for field in msgspec.structs.fields(Attributes) if field.required}
    rows = [
        f"| `{name}` | {text.replace('<', '&lt;')} | {'' if name in required else 'not always'} |"
        for name, text in eventschema.ATTRIBUTES.items()
    ]
    parts: list[str] = []
    seen = set()
    for what, event in examples():
        head = "" if event.type in seen else f"### {event.type}\n\n"
        seen.add(event.type)
        members = "" if not head else _members(event.type)
        parts.append(f"{head}{what}\n\n```json\n{_shown(_dated(event))}\n```\n{members}")
    return _EVENTS.format(how=_HOW, attributes="\n".join(rows), types="\n".join(parts).rstrip())


def _members(kind: str) -> str:
    """What `data.object` of a stream event has."""
    if kind not in eventschema.STREAM_EVENTS:
        return ""
    members, _ = eventschema.STREAM_EVENTS[kind]
    rows = [f"| `{name}` | {each['description']} |" for name, each in members.items()]
    return "\n| `data.object` | |\n|---|---|\n" + "\n".join(rows) + "\n"


# -- configuration.md ---------------------------------------------------------------------------------------

_CONFIGURATION = """\
# Configuration

Every key of config.toml, with its type, its default and its limits. [config.toml](../config.toml) is a file
to begin with. Units are part of the names. Unknown keys are refused. In any string `${{NAME}}` is taken from
the environment and `${{file:/path}}` from a file.

```
kexport check -c config.toml
kexport schema > config.schema.json
```

The schema is for editors. {how}
{tables}
## Sinks

`[sinks.NAME]`, a table for each sink under a name of your own. These keys are of every sink; the defaults of
`batch` are a sink type's own:

{engine}

{sinks}
"""
_HEADS = {
    "": "Outside of all tables",
    "cluster": "[cluster]",
    "journal": "[journal]",
    "http": "[http]",
    "resources": "[[resources]]",
    "transforms": "[[transforms]]",
    "routes": "[[routes]]",
}
_ENGINE = ("type", "batch.", "retry.", "timeout_seconds", "rejects_to")


def configuration() -> str:
    found = schema.components()
    root = found["Root"]["properties"]
    plain = {name: each for name, each in root.items() if not _struct(each)[0] and name != "sinks"}
    tables = [_section(_HEADS[""], {"properties": plain}, found)]
    for name, each in root.items():
        struct, many = _struct(each)
        if struct:
            head = f"[[{name}]]" if many else f"[{name}]"
            tables.append(_section(_HEADS.get(name, head), found[struct], found, each.get("description", "")))
    types = plugins.load().types
    sinks = [_sink(name) for name in SINKS if name in types]
    engine = _table([row for row in _sink_rows("file") if row[0].startswith(_ENGINE)])
    return _CONFIGURATION.format(how=_HOW, tables="\n".join(tables), engine=engine, sinks="\n".join(sinks))


def _struct(field: dict[str, Any]) -> tuple[str, bool]:
    """The struct that a field of the file is, or is a list of."""
    many = field.get("type") == "array"
    reference = (field.get("items", {}) if many else field).get("$ref", "")
    if not reference and "allOf" in field:
        reference = field["allOf"][0].get("$ref", "")
    return reference.removeprefix(schema.REFERENCE), many


def _section(head: str, struct: dict[str, Any], found: dict[str, Any], what: str = "") -> str:
    rows = []
    for name, field in struct["properties"].items():
        default = "required" if name in struct.get("required", ()) else _default(field)
        rows.append([name, schema.type_words(field), default, _limits(field), field.get("description", "")])
    intro = f"{what}\n\n" if what else ""
    return f"## {head}\n\n{intro}{_table(rows)}\n"


def _default(field: dict[str, Any]) -> str:
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`" if "default" in field else ""


def _limits(field: dict[str, Any]) -> str:
    """What a value must be, beyond its type."""
    field = {**field, **{k: v for each in field.get("anyOf", ()) for k, v in each.items()}}
    words = {
        "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
        "minLength": "at least {} characters", "maxLength": "at most {} characters",
        "minItems": "at least {}", "maxItems": "at most {}", "pattern": "as `{}`",
    }  # fmt: skip
    said = [form.format(field[key]) for key, form in words.items() if key in field]
    return ", ".join(said).replace("|", "\\|").replace("at least 1 characters", "not empty")


def _table(rows: list[list[str]]) -> str:
    head = "| key | type | default | limits | |\n|---|---|---|---|---|\n"
    cells = [[row[0], row[1].replace("|", "\\|"), *row[2:]] for row in rows]
    return head + "\n".join(f"| `{row[0]}` | {' | '.join(row[1:])} |" for row in cells)


def _sink_rows(name: str) -> list[list[str]]:
    kind = plugins.load().types[name]
    found = schema.components(kind)
    limits = {key: _limits(field) for key, field in found[f"{name}_sink"]["properties"].items()}
    for inner, struct in (("batch", "BatchConfig"), ("retry", "RetryConfig")):
        limits |= {f"{inner}.{key}": _limits(field) for key, field in found[struct]["properties"].items()}
    rows = []
    for each, words, default, description in describe.setting_rows(kind):
        given = default.strip("()") if default in {"", "(required)"} else f"`{default}`"
        rows.append([each, "string" if each == "type" else words, given, limits[each], description])
    return rows


def _sink(name: str) -> str:
    folder = "plugins/examples" if name in {"webhook", "slack"} else "plugins"
    own = [row for row in _sink_rows(name) if not row[0].startswith(_ENGINE)]
    batch = plugins.load().types[name].batch
    usual = (
        f"A batch is {batch.max_events:,} events or {batch.max_bytes:,} bytes,"
        f" waited for {batch.max_wait_seconds:g} s."
    )
    link = f"[kexport-{name}](../{folder}/kexport-{name}/README.md) says what it guarantees. {usual}"
    return f'### type = "{name}"\n\n{link}\n\n{_table(own)}\n'


GENERATED = {"events.md": events, "event.schema.json": eventschema.text, "configuration.md": configuration}


def main() -> None:
    for name, make in GENERATED.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
