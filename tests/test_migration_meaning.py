"""`kexport migrate`: what it writes means what the other program's configuration meant."""

from __future__ import annotations

import tomllib

import msgspec
import pytest
import yaml

from kexport import draft, eventreceivers
from kexport.errors import ConfigError
from tests.migrating import KEE, OTEL, loaded, translated


def test_anchors_and_merge_keys_are_followed(monkeypatch: pytest.MonkeyPatch):
    text = translated(
        KEE,
        "route:\n  match: [{receiver: a}, {receiver: b}]\nreceivers:\n"
        "- name: a\n  kafka: &one {topic: events, brokers: ['a:1'], compressionCodec: gzip}\n"
        "- name: b\n  kafka: {<<: *one, compressionCodec: zstd}\n",
    )
    sinks = loaded(text, monkeypatch).sinks
    found = [msgspec.structs.asdict(each.config) for each in sinks.values()]
    assert [(each["topic"], each["compression"]) for each in found] == [
        ("events", "gzip"),
        ("events", "zstd"),
    ]


def test_what_the_input_says_cannot_break_out_of_comments_and_strings(monkeypatch: pytest.MonkeyPatch):
    name = 'x"]\n[sinks.evil]\u2028\x7f'
    document = {
        "clusterName": "a'\"\\\n\u0085b",
        "logFormat": "pretty",
        "route": {"match": [{"receiver": name, "message": 'it\'s "\\d"\n'}]},
        "receivers": [{"name": name, "opsgenie": {"message": "{{ .Reason }}\nx = 1"}}],
    }
    text = translated(KEE, yaml.safe_dump(document))
    parsed = tomllib.loads(text)
    assert list(parsed["sinks"]) == [name]
    assert parsed["cluster"]["name"] == document["clusterName"]
    assert parsed["routes"][0]["sinks"] == [name]


def test_the_receivers_section_alone_prints(monkeypatch: pytest.MonkeyPatch):
    section = (
        "k8sobjects:\n  objects:\n  - {name: pods, mode: watch}\n  - {name: events, group: events.k8s.io}\n"
    )
    for text in (section, section.replace("k8sobjects:\n  ", "").replace("\n  ", "\n")):
        root = loaded(translated(OTEL, text), monkeypatch).root
        assert [(each.resource, each.initial) for each in root.resources] == [
            ("pods", "silent"),
            ("events.events.k8s.io", "emit"),
        ]
        assert root.sinks == {"changes": {"type": "file", "path": "-"}}
        assert root.routes == ()


PIPELINES = """\
receivers:
  k8sobjects: {objects: [{name: pods, mode: watch}]}
  k8sobjects/idle: {objects: [{name: nodes, mode: watch}]}
  hostmetrics: {}
exporters: {debug: {}, file: {path: a}, otlphttp: {endpoint: 'http://a'}}
service:
  pipelines:
    logs: {receivers: [k8sobjects], exporters: [file, forward]}
    metrics: {receivers: [hostmetrics], exporters: [debug, otlphttp]}
"""


def test_only_what_a_pipeline_connects_is_taken(monkeypatch: pytest.MonkeyPatch):
    text = translated(OTEL, PIPELINES)
    root = loaded(text, monkeypatch).root
    assert [each.resource for each in root.resources] == ["pods"]
    assert (list(root.sinks), root.routes) == (["file"], ())
    said = text.replace("\n#   ", " ")
    for what in ("exporters.debug", "exporters.otlphttp", "receivers.k8sobjects/idle"):
        assert f"{what}: is in no pipeline of Kubernetes' objects, and so it is left out" in said


def test_without_pipelines_every_receiver_feeds_every_exporter(monkeypatch: pytest.MonkeyPatch):
    text = PIPELINES.partition("service:")[0].replace(
        "mode: watch}]", "mode: watch, exclude_watch_type: [ADDED]}]"
    )
    root = loaded(translated(OTEL, text), monkeypatch).root
    assert [each.resource for each in root.resources] == ["pods", "nodes"]
    assert [each.sinks for each in root.routes] == [("debug", "file", "otlphttp")]


def test_pipelines_that_lead_nowhere_are_refused():
    with pytest.raises(ConfigError, match=r"line 7: service\.pipelines: none leads from a receiver"):
        translated(OTEL, PIPELINES.replace("[file, forward]", "[forward]"))


def test_a_doubled_dollar_is_one():
    text = translated(OTEL, "objects:\n- {name: pods, label_selector: 'a=$$b'}\n")
    assert tomllib.loads(text)["resources"][0]["label_selector"] == "a=$b"


def test_what_the_collector_leaves_out_is_left_out(monkeypatch: pytest.MonkeyPatch):
    text = "objects:\n- {name: pods, mode: watch, exclude_watch_type: [%s]}\n"
    root = loaded(translated(OTEL, text % "DELETED"), monkeypatch).root
    assert (root.resources[0].deletions, root.routes) == ("skip", ())
    root = loaded(translated(OTEL, text % "MODIFIED"), monkeypatch).root
    assert root.routes[0].changes == ("added", "deleted", "left")


def test_templates_become_the_places_of_their_fields():
    fields_of = eventreceivers.fields_of
    assert fields_of("{{ .Message }}") == ".Message is data.object.message"
    assert fields_of("{{ .InvolvedObject.Name | upper }}") == (
        ".InvolvedObject.Name is data.object.involvedObject.name"
    )
    assert fields_of("a {{ .Namespace }} b {{ .UID }}") == (
        ".Namespace is the attribute objnamespace; .UID is the attribute partitionkey"
    )
    assert "is not looked up" in fields_of("{{ .InvolvedObject.Labels.owner }}")
    assert fields_of("{{ toPrettyJson . }}") == "the Event as a whole is data.object"
    assert fields_of("{{ now }}") == "it names no field of the Event"


@pytest.mark.parametrize(
    "setting",
    ["plain", 'say "hi"', "back\\slash", "it's \"\\", "\n\t\x7f\u2028é", True, 3, 2.5, 90.0, ["a", "b\\"]],
)
def test_what_is_written_is_read_as_it_was(setting: draft.Setting):
    assert tomllib.loads(f"x = {draft.toml(setting)}")["x"] == setting
    assert tomllib.loads(f"x = {draft.toml({'a.b': 'c'})}")["x"] == {"a.b": "c"}
