import copy
import json
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from kexport import config, plugins, schema
from kexport.errors import ConfigError
from tests import probe_sinks

TYPES = {kind.name: kind for kind in probe_sinks.kexport_sinks()}
SCHEMA = schema.document(TYPES.values())
GOOD = """
shutdown_seconds = 5
[cluster]
name = "prod"
max_snapshots = 2
[journal]
path = "state"
when_full = "drop_oldest"
keep_seconds = 0
[[resources]]
resource = "pods"
namespaces = ["shop", "prod-*"]
initial = "silent"
[[transforms]]
resources = ["*"]
drop = ["status"]
[[routes]]
sinks = ["audit"]
changes = ["added", "left"]
[sinks.audit]
type = "probe"
path = "events.jsonl"
mode = "well"
level = 9
topics = ["a", "b"]
rejects_to = "rest"
timeout_seconds = 1.5
batch = { max_events = 5, max_wait_seconds = 0.5 }
retry = { max_seconds = 9 }
[sinks.rest]
type = "probe"
path = "rest.jsonl"
"""
# What is done to the good document: the path to a member, and what is put there (None: it is taken away).
CHANGES: list[tuple[list[str | int], Any]] = [
    (["journal"], None),
    (["cluster", "name"], None),
    (["resources"], None),
    (["resources"], []),
    (["resources", 0, "resource"], None),
    (["resources", 0, "resource"], ""),
    (["resources", 0, "resource"], 5),
    (["resources", 0, "namespaces"], "shop"),
    (["resources", 0, "namespaces"], [""]),
    (["resources", 0, "initial"], "loud"),
    (["resources", 0, "labels"], "a=b"),
    (["surprise"], 1),
    (["cluster", "nmae"], "x"),
    (["cluster", "max_snapshots"], 0),
    (["cluster", "max_snapshots"], "2"),
    (["cluster", "list_requests_per_second"], 0),
    (["cluster", "list_requests_per_second"], 7),
    (["journal", "max_bytes"], 1),
    (["journal", "commit_seconds"], 0.5),
    (["journal", "when_full"], "panic"),
    (["journal", "when_full"], "pause"),
    (["transforms", 0, "resources"], []),
    (["routes", 0, "changes"], ["vanished"]),
    (["routes", 0, "wher"], "x"),
    (["routes", 0, "where"], "object.spec.replicas > 3"),
    (["routes", 0, "origins"], ["watch", "guess"]),
    (["routes", 0, "sample"], 0),
    (["routes", 0, "sample"], 1.5),
    (["routes", 0, "max_events_per_second"], 7),
    (["transforms", 0, "redact"], ["env", "last-applied"]),
    (["transforms", 0, "redact"], ["everything"]),
    (["transforms", 0, "rename"], {"spec.a": "spec.b"}),
    (["transforms", 0, "rename"], {"spec.a": 1}),
    (["shutdown_seconds"], -1),
    (["shutdown_seconds"], True),
    (["sinks"], None),
    (["sinks"], {}),
    (["sinks", "audit", "type"], None),
    (["sinks", "audit", "type"], "kafka?"),
    (["sinks", "audit", "path"], None),
    (["sinks", "audit", "path"], ""),
    (["sinks", "audit", "paht"], "x"),
    (["sinks", "audit", "mode"], "badly"),
    (["sinks", "audit", "level"], 10),
    (["sinks", "audit", "level"], 1.5),
    (["sinks", "audit", "topics"], ["a", "b", "c"]),
    (["sinks", "audit", "batch", "max_events"], 0),
    (["sinks", "audit", "batch", "max_wait"], 1),
    (["sinks", "audit", "timeout_seconds"], 0),
    (["sinks", "audit", "retry"], {}),
    (["sinks", "audit", "retry", "min_seconds"], 1),
]


def documents() -> Iterator[Any]:
    yield pytest.param(tomllib.loads(GOOD), id="good")
    for path, value in CHANGES:
        document = copy.deepcopy(tomllib.loads(GOOD))
        table: Any = document
        for step in path[:-1]:
            table = table[step]
        if value is None:
            table.pop(path[-1], None)
        else:
            table[path[-1]] = value
        yield pytest.param(document, id=f"{'.'.join(map(str, path))}={json.dumps(value)}")


def toml(value: Any) -> str:
    """Enough TOML for these documents, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(each)}' for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


@pytest.mark.parametrize("document", list(documents()))
def test_parser_and_schema_agree(document: dict[str, Any]):
    text = "\n".join(f'"{key}" = {toml(value)}' for key, value in document.items())
    assert tomllib.loads(text) == document
    try:
        config.parse(text, TYPES)
    except ConfigError as error:
        refused = str(error)
    else:
        refused = ""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert validator.is_valid(document) == (not refused), refused


def test_the_good_document_is_good():
    jsonschema.validate(tomllib.loads(GOOD), SCHEMA)


def test_it_is_a_schema_of_its_dialect_and_closed_everywhere():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    tables = [SCHEMA, *(each for each in SCHEMA["$defs"].values() if "properties" in each)]
    assert len(tables) >= 8
    assert all(table["additionalProperties"] is False for table in tables)


def test_every_setting_is_described():
    tables = [SCHEMA, *(each for each in SCHEMA["$defs"].values() if "properties" in each)]
    for table in tables:
        for name, setting in table["properties"].items():
            assert "description" in setting or "$ref" in setting or name in {"transforms", "routes"}, name


def test_a_variable_may_stand_where_a_certain_text_is_demanded():
    document = tomllib.loads(GOOD)
    document["journal"]["when_full"] = "${WHEN_FULL}"
    document["sinks"]["audit"]["mode"] = "${file:/run/mode}"
    jsonschema.validate(document, SCHEMA)


def test_each_sink_goes_by_its_type_alone():
    document = tomllib.loads(GOOD)
    document["sinks"]["audit"]["type"] = "${TYPE}"
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(document)
    assert SCHEMA["$defs"]["sink"]["discriminator"]["mapping"] == {"probe": "#/$defs/probe_sink"}


def test_without_an_installed_sink_nothing_is_valid():
    bare = schema.document([])
    jsonschema.Draft202012Validator.check_schema(bare)
    assert not jsonschema.Draft202012Validator(bare).is_valid(tomllib.loads(GOOD))


def test_the_installed_sinks_make_a_valid_schema():
    installed = schema.document(plugins.load().types.values())
    jsonschema.Draft202012Validator.check_schema(installed)
    json.dumps(installed)
