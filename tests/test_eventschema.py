"""The JSON Schema of an event holds for what kexport really sends, and for what the CloudEvents SDK reads."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat

from kexport.event import Attributes, Event
from kexport.eventschema import ATTRIBUTES, STREAM_EVENTS, document
from kexport.testing import make_event
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, toml
from tests.testbed.examples import examples

SCHEMA = document()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
EXAMPLES = list(examples())


def config_map(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def told_of_gap(event: Event) -> bool:
    return event.change == "gap" and event.attributes.resource == "configmaps"


def inferred(event: Event) -> bool:
    return event.change == "added" and event.attributes.origin == "resync"


def check(events: Sequence[Event]) -> None:
    for event in events:
        VALIDATOR.validate(json.loads(event.encode()))
        message = HTTPMessage({"content-type": "application/cloudevents+json"}, event.encode())
        read = from_structured_event(message, JSONFormat())
        attributes = {name: read.get_extension(name) for name in ("partitionkey", "sequence", "origin")}
        assert attributes == {name: getattr(event.attributes, name) for name in attributes}
        assert (read.get_id(), read.get_type()) == (event.id, event.type)
        assert read.get_data() == event.data


def test_it_is_a_schema_and_names_every_attribute_in_order():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert tuple(ATTRIBUTES) == Attributes.__struct_fields__
    assert all(text.endswith(".") for text in ATTRIBUTES.values())


def test_there_is_an_example_of_every_type_and_each_fits():
    check([event for _, event in EXAMPLES])
    types = {event.type for _, event in EXAMPLES}
    assert types == set(SCHEMA["properties"]["type"]["enum"])


def test_what_a_rejects_to_sink_gets_fits():
    check([make_event(3), make_event(4).rejected(sink="audit", reason="too large")])


@pytest.mark.parametrize("what", list(STREAM_EVENTS))
def test_what_a_stream_event_says_is_described(what: str):
    members, demands = STREAM_EVENTS[what]
    said = [set(event.data["object"]) for _, event in EXAMPLES if event.type == what]
    assert said
    assert all(each <= members.keys() for each in said)
    assert all(any(set(names) <= each for names in demands) for each in said)


async def test_the_events_of_a_real_run_fit(tmp_path: Path):
    """First listing, changes, leaving a selector, a deletion, a gap read back and one inferred."""
    memory = Memory()
    async with FakeCluster() as cluster:
        resources: list[dict[str, Any]] = [
            {"resource": "configmaps", "label_selector": "tier=web", "diff": True},
            {"resource": "secrets"},
            {"resource": "nodes"},
        ]
        text = toml(tmp_path, {"url": cluster.url}, resources)
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        cluster.create(config_map("kept", tier="web"))
        cluster.create(config_map("gone", tier="web"))
        cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "shop"}}
        cluster.create({**secret, "data": {"password": "aHVudGVyMjI="}})
        async with Exporter(text, memory) as exporter:
            await exporter.synced(3)
            cluster.patch("configmaps", "shop", "kept", {"data": {"a": "1"}})
            cluster.delete("secrets", "shop", "key")
            cluster.patch("configmaps", "shop", "kept", {"metadata": {"labels": {"tier": "db"}}})
            await exporter.until(lambda events: {"deleted", "left"} <= {each.change for each in events})
        cluster.delete("configmaps", "shop", "gone")
        await cluster.restart()
        async with Exporter(text, memory) as exporter:
            await exporter.until(lambda events: any(told_of_gap(each) for each in events))
        cluster.create(config_map("late", tier="web"))
        await cluster.restart()
        text = toml(tmp_path, {"url": cluster.url, "recover_max_requests": 0}, resources)
        async with Exporter(text, memory) as exporter:
            await exporter.until(lambda events: any(inferred(each) for each in events))
    changes = {event.change for event in memory.events}
    assert changes == {"added", "modified", "deleted", "left", "synced", "gap"}
    origins = {event.attributes.origin for event in memory.events}
    assert origins == {"watch", "snapshot", "recovered", "resync"}
    check(memory.events)
    assert any(event.data.get("patch") and event.data["previous"] for event in memory.events)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", None), ("id", ""), ("type", "io.kexport.object.changed"), ("sequence", "17"),
        ("time", "yesterday"), ("origin", "replay"), ("specversion", "0.3"), ("objname", None),
        ("data", {}), ("data", {"object": {"kind": "Pod"}}), ("data", {"object": []}), ("Epoch", "1"),
        ("epoch", "0"), ("data", {**EXAMPLES[0][1].data, "patch": [{"op": "fix", "path": ""}]}),
    ],
)  # fmt: skip
def test_what_is_no_event_does_not_fit(name: str, value: Any):
    event = json.loads(EXAMPLES[0][1].encode())
    assert VALIDATOR.is_valid(event)
    if value is None:
        del event[name]
    else:
        event[name] = value
    assert not VALIDATOR.is_valid(event)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_attributes_and_data_that_come_later_do_not_break_a_consumer(number: int):
    event = copy.deepcopy(json.loads(EXAMPLES[number][1].encode()))
    event["reviewedby"] = "somebody"
    event["data"]["weight"] = 1
    assert VALIDATOR.is_valid(event)
