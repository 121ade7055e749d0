"""`kexport migrate`: what it writes loads, and says what it could not say; nothing is dropped in silence."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kexport import (
    collectorobjects,
    collectorsinks,
    config,
    draft,
    eventexporter,
    eventreceivers,
    eventrules,
    plugins,
)
from kexport.condition import Where
from kexport.errors import ConfigError
from kexport.migration import ORIGINS, migrate, render, write
from tests.commandline import CommandLine

SAMPLES = {
    "kubernetes-event-exporter": Path(__file__).parent / "migrations" / "events.yaml",
    "k8sobjects": Path(__file__).parent / "migrations" / "collector.yaml",
}
TYPES = plugins.load().types
KEE, OTEL = "kubernetes-event-exporter", "k8sobjects"
WHOLE = "receivers: {k8sobjects: {objects: [{name: pods}]}}\n"


def translated(origin: str, text: str) -> str:
    return ORIGINS[origin](text).render()


def loaded(text: str, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """As `kexport check` loads it, with every variable of it set."""
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, "https://hooks.example.org/x" if name.endswith("URL") else "value")
    found = config.parse(text, TYPES)
    for route in found.root.routes:
        if route.where:
            Where(route.where)  # compiles, or is refused with its place
    return found


def tree(*rules: str, receivers: str = "receivers: [{name: a, stdout: {}}, {name: b, stdout: {}}]") -> str:
    return "route:\n" + "".join(f"  {line}\n" for rule in rules for line in rule.splitlines()) + receivers


# -- what is written loads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", SAMPLES)
def test_what_is_made_of_the_samples_loads(origin: str, monkeypatch: pytest.MonkeyPatch):
    found = migrate(origin, SAMPLES[origin])
    text = render(found, origin, SAMPLES[origin])
    parsed = loaded(text, monkeypatch)
    assert len(parsed.sinks) == len(yaml.safe_load(SAMPLES[origin].read_text())[_SINKS[origin]])
    assert found.notes == len(re.findall(r"^# line \d", text, re.MULTILINE))
    routes = tomllib.loads(text)["routes"]
    assert len(parsed.root.routes) == len(routes)
    assert any("where" in route for route in routes)


_SINKS = {KEE: "receivers", OTEL: "exporters"}


@pytest.mark.parametrize("origin", SAMPLES)
def test_secrets_are_not_copied(origin: str):
    text = translated(origin, SAMPLES[origin].read_text())
    for secret in ("hunter22", "letmein99", "xoxb-1234", "abcdefgh"):
        assert secret not in text


# -- nothing in silence ------------------------------------------------------------------------------------


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value that is no table or list with something in it."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not node or not isinstance(node, dict | list):
        yield path
    for key, each in pairs:
        yield from leaves(each, (*path, key))


def without(document: Any, path: tuple[Any, ...]) -> Any:
    fresh = copy.deepcopy(document)
    place = fresh
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return fresh


def said(origin: str, document: Any) -> str:
    """What is made of it, but for line numbers; or the complaint, which is no silence either."""
    try:
        text = translated(origin, yaml.safe_dump(document, sort_keys=False))
    except ConfigError as error:
        return f"refused: {error}"
    joined = re.sub(r"\n#   ", " ", text)
    return re.sub(r"# line \d+, ", "# ", joined)


def cases() -> Iterator[Any]:
    for origin, sample in SAMPLES.items():
        document = yaml.safe_load(sample.read_text(encoding="utf-8"))
        for path in leaves(document):
            yield pytest.param(origin, path, id=f"{origin}-{'.'.join(map(str, path))}")


@pytest.mark.parametrize(("origin", "path"), list(cases()))
def test_every_value_of_the_input_makes_a_difference_or_is_named(origin: str, path: tuple[Any, ...]):
    """Whatever is taken out of the sample, what is made of it is another text."""
    document = yaml.safe_load(SAMPLES[origin].read_text(encoding="utf-8"))
    assert said(origin, without(document, path)) != said(origin, document)


def test_the_samples_have_every_key_and_every_kind():
    events = SAMPLES[KEE].read_text()
    keys = {*eventexporter._KEYS, *eventrules.RULE, *eventreceivers._MAKERS} - {"throttlePeriod"}
    assert all(re.search(rf"\b{key}:", events) for key in keys)
    objects = SAMPLES[OTEL].read_text()
    keys = {*collectorobjects._OBJECT_KEYS, *collectorobjects._OBJECTS_KEYS, *collectorobjects._EVENTS_KEYS}
    assert all(re.search(rf"\b{key}:", objects) for key in keys)
    kinds = set(collectorsinks._MAKERS) - {"logging", "otlp_grpc", "otlp_http"}
    assert all(re.search(rf"^  {kind}\b", objects, re.MULTILINE) for kind in kinds)


@pytest.mark.parametrize("kind", sorted(eventreceivers._KEYS))
def test_every_kind_of_receiver_gives_a_sink_that_loads(kind: str, monkeypatch: pytest.MonkeyPatch):
    needed = {
        "file": {"path": "a"},
        "webhook": {"endpoint": "https://a.example"},
        "loki": {"url": "http://loki:3100/loki/api/v1/push"},
        "kafka": {"brokers": ["a:1"], "topic": "t"},
    }
    receiver = json.dumps([{"name": "a b", kind: needed.get(kind)}])
    text = translated(KEE, f"route: {{match: [{{receiver: a b}}]}}\nreceivers: {receiver}")
    (sink,) = loaded(text, monkeypatch).sinks.values()
    assert sink.name == "a b"
    kinds = {"slack": "slack", "loki": "otlp", **{each: each for each in ("webhook", "kafka")}}
    assert sink.type.name == kinds.get(kind, "file")
    assert ("kexport has no sink for" in text) == (kind not in {*kinds, "file", "stdout"})


# -- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "text", "problem"),
    [
        (KEE, "", "is empty"),
        (KEE, "[1, 2]", "line 1: expected a table, got a list"),
        (
            KEE,
            "logLevle: debug\n",
            "line 1: logLevle: unknown key, did you mean 'logLevel'?; known: logLevel, ",
        ),
        (KEE, "a: 1\na: 2\n", "line 2: a: stands here a second time"),
        (
            KEE,
            "route:\n  match: {receiver: a}\nreceivers: [{name: a, stdout: {}}]",
            "line 2: route.match: expected",
        ),
        (KEE, "receivers:\n- name: a\n  stdout: {}\n", "route: there is none, so no receiver gets anything"),
        (KEE, "receivers:\n- stdout: {}\n", "line 2: receivers[0]: needs a name"),
        (
            KEE,
            "receivers:\n- name: a\n  stdout: {}\n- name: a\n  pipe: {}\n",
            "line 4: receivers[1].name: a second",
        ),
        (
            KEE,
            tree("match: [{receiver: a}]", receivers="receivers:\n- name: a\n"),
            "line 4: receivers[0]: needs one kind of receiver beside its name, has 0",
        ),
        (
            KEE,
            tree("match: [{receiver: a}]", receivers="receivers:\n- name: a\n  kafak: {}\n"),
            "line 5: receivers[0].kafak: unknown key, did you mean 'kafka'?",
        ),
        (KEE, "receivers: []\n", "receivers: there is none"),
        (
            KEE,
            tree("match: [{reciever: a}]"),
            "line 2: route.match[0].reciever: unknown key, did you mean 'receiver'",
        ),
        (KEE, tree("match: [{kind: Pod}]"), "line 1: route: no match rule that can match names a receiver"),
        (
            KEE,
            tree("match: [{receiver: a, minCount: many}]"),
            "line 2: route.match[0].minCount: expected a number",
        ),
        (KEE, "a: {{ .Reason }} x\n", "line 1, column "),
        (KEE, "a: {{ .b }}\n", "put a value that begins with {{ in quotes"),
        (KEE, "a: &x [*x]\n", "line 1: a[0]: an alias leads back into itself"),
        (KEE, "a: *nobody\n", "line 1, column 4: is not valid YAML: found undefined alias"),
        (KEE, "a: 1\n--- \nb: 2\n", "is not valid YAML: but found another document"),
        (
            KEE,
            "apiVersion: v1\nkind: ConfigMap\ndata: {}\n",
            "line 1: is a manifest (ConfigMap): give the configuration",
        ),
        (KEE, "? [a]\n: b\n", "line 1: a key must be a text"),
        (OTEL, "exporters: {}\n", "has no receiver k8sobjects or k8s_events"),
        (OTEL, "k8sobjects: {objects: []}\n", "line 1: k8sobjects: objects: there is none"),
        (OTEL, "objects:\n- name: pods\n  mode: look\n", "line 3: objects[0].mode: unknown mode 'look'"),
        (OTEL, "objects:\n- mode: watch\n", "line 2: objects[0]: needs a name"),
        (OTEL, "objects:\n- name: pods\n  namespace: a\n", "unknown key, did you mean 'namespaces'?"),
        (OTEL, "objects:\n- {name: pods, exclude_watch_type: [ADD]}\n", "unknown watch type 'ADD'"),
        (
            OTEL,
            "objects:\n- {name: 'pods${env:A:-x}'}\n",
            "line 2: objects[0].name: ${env:A:-x} has a default",
        ),
        (OTEL, "objects:\n- {name: '${yaml:a}'}\n", "has a ${…} other than env and file"),
        (
            OTEL,
            "receivers: {k8sobjects: {objects: [{name: pods}]}}\nexporters: {file: {}}\n",
            "exporters.file: needs path",
        ),
        (
            OTEL,
            "receivers: {k8sobjects: {objects: [{name: pods}]}}\nexporters: {}\n",
            "exporters: there is none",
        ),
        (
            OTEL,
            "receivers: {k8sobjects: {objects: [{name: pods}]}}\nservices: {}\n",
            "did you mean 'service'?",
        ),
        (
            OTEL,
            "objects: [{name: pods}]\nreceivers: {}\n",
            "line 2: receivers: unknown key",
        ),
        (
            OTEL,
            WHOLE + "exporters: {debug: {}, kafka: {retry_on_failure: {max_interval: soon}}}\n",
            "exporters.kafka.retry_on_failure.max_interval: expected a duration such as 1m30s, got 'soon'",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(origin: str, text: str, problem: str):
    with pytest.raises(ConfigError) as error:
        translated(origin, text)
    assert problem in str(error.value)


def test_aliases_that_would_never_end_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(ConfigError, match="more than 100000 values"):
        translated(KEE, "\n".join(lines))


def test_what_is_nested_without_end_is_refused():
    with pytest.raises(ConfigError, match="is nested too deep"):
        translated(KEE, "a: " + "[" * 20_000)


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


# -- what it means -----------------------------------------------------------------------------------------


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


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


async def test_the_command_prints_or_makes_a_file_and_never_writes_over_one(shell: CommandLine):
    sample = str(SAMPLES[KEE])
    code, out, err = await shell.run("migrate", KEE, sample)
    assert (code, err) == (0, "")
    assert out.startswith(f"# Made by kexport migrate {KEE} from events.yaml.\n")
    assert tomllib.loads(out)["cluster"] == {"name": "prod-eu"}
    assert "\n# Conditions (where) are CEL, which needs the extra kexport[cel].\n" in out
    code, told, _ = await shell.run("migrate", KEE, sample, "-o", "made.toml")
    assert code == 0
    assert re.fullmatch(r"made made\.toml; notes on what has no twin: \d+\n", told)
    assert (shell.folder / "made.toml").read_text() == out
    code, _, err = await shell.run("migrate", KEE, sample, "-o", "made.toml")
    assert (code, err) == (
        2,
        "kexport: made.toml is there already and stays as it is: choose another name\n",
    )
    assert (shell.folder / "made.toml").read_text() == out


async def test_the_exit_codes_are_the_documented_ones(shell: CommandLine):
    (shell.folder / "bad.yaml").write_text("logLevel: [\n")
    code, out, err = await shell.run("migrate", OTEL, "bad.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("kexport: bad.yaml: line 2, column 1: is not valid YAML: ")
    assert (await shell.run("migrate", OTEL, "nothing.yaml")).code == 2
    assert (await shell.run("migrate", "fluentd", "bad.yaml")).code == 2
    code, _, err = await shell.run("migrate", OTEL, str(SAMPLES[OTEL]), "-o", "no/such/folder.toml")
    assert code == 1
    assert "cannot write no/such/folder.toml" in err


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        migrate(KEE, tmp_path / "x")
    write("a", tmp_path / "new")
    with pytest.raises(ConfigError, match="is there already"):
        write("b", tmp_path / "new")
    assert (tmp_path / "new").read_text() == "a"
