"""`kexport check --explain` says what the exporter does, and shows no value."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kexport import config, plugins, sample
from kexport.cel import UndecidedError
from kexport.change import ChangeType, Origin
from kexport.cluster import survey
from kexport.condition import Where
from kexport.errors import ConfigError
from kexport.explain import explain
from kexport.explanation import MOST_EFFECTS, words
from kexport.kube import Client
from kexport.tables import ClusterConfig
from kexport.testing import make_event
from kexport.testing.cluster import FakeCluster
from kexport.transform import LAST_APPLIED
from tests.commandline import CommandLine
from tests.exporter import toml_of
from tests.test_routing import Setting, everywhere_synced, web

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "routing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
VALUE = "hunter2"


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def pod() -> dict[str, Any]:
    env = [{"name": "PASSWORD", "value": VALUE}, {"name": "HOST", "valueFrom": {"fieldRef": {}}}]
    annotations = {LAST_APPLIED: f'{{"value":"{VALUE}"}}', "example.com/owner": VALUE}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-1",
            "namespace": "default",
            "labels": {"app": "web", "team": "shop"},
            "annotations": annotations,
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "web", "image": "shop/web:1", "env": env}]},
    }


# -- the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS)
def test_the_configurations_of_the_page_load(block: str) -> None:
    if "[sinks." in block:
        config.parse(block, plugins.load().types)


def test_the_expressions_of_the_page_can_be_used() -> None:
    table = PAGE.split("| expression | holds for |")[1].split("\n\n")[0]
    expressions = re.findall(r"^\| `(.+?)` \|", table, flags=re.MULTILINE)
    assert len(expressions) >= 9
    met = {
        "object": {
            "metadata": {
                "labels": {"app.kubernetes.io/name": "web"},
                "creationTimestamp": "2025-12-31T23:59:30Z",
                "deletionTimestamp": "2025-12-31T23:59:30Z",
            },
            "spec": {"replicas": 4, "containers": [{"image": "shop/web:1"}]},
            "status": {"phase": "Failed"},
            "type": "Warning",
            "count": 10,
        },
        "previous": {"spec": {"replicas": 3}},
    }
    for expression in expressions:
        assert Where(expression).holds(make_event(data=met, objnamespace="prod-eu")), expression
        with suppress(UndecidedError):
            bare: dict[str, Any] = {"metadata": {"labels": {}}, "spec": {}, "status": {}}
            assert not Where(expression).holds(make_event(data={"object": bare}))


def test_the_mistake_on_the_page_is_shown_so() -> None:
    (shown,) = re.findall(r"```\nkexport: config\.toml: (.*?)\n```", PAGE, flags=re.DOTALL)
    expression = shown.splitlines()[1].strip()
    document = {
        "resources": [{"resource": "pods"}],
        "routes": [{"sinks": ["a"]}, {"sinks": ["a"], "where": expression}],
        "sinks": {"a": {"type": "file", "path": "x"}},
    }
    with pytest.raises(ConfigError) as caught:
        config.parse(toml_of(document), plugins.load().types)
    assert str(caught.value) == re.sub(r"^ {4}", "", shown, flags=re.MULTILINE)


async def test_the_explanation_on_the_page_is_the_real_one(shell: CommandLine, fake: FakeCluster) -> None:
    fake.create(pod())
    text = BLOCKS[-1].replace('name = "prod-eu"', f'name = "prod-eu"\nurl = "{fake.url}"')
    text = text.replace('type = "file"', 'type = "probe"')
    (shell.folder / "config.toml").write_text(text)
    (shown,) = re.findall(r"```\n\$ kexport check --explain pods/default/web-1\n(.*?)```", PAGE, re.DOTALL)
    outcome = await shell.run("check", "--explain", "pods/default/web-1")
    assert (outcome.code, outcome.out, outcome.err) == (0, shown, "")


# -- the command ------------------------------------------------------------------------------------------


async def test_a_file_standard_input_and_the_cluster_give_the_same(
    shell: CommandLine, fake: FakeCluster
) -> None:
    stored = fake.create(pod())
    shell.configure(f"url = '{fake.url}'")
    (shell.folder / "pod.json").write_text(json.dumps(stored, indent=4))
    (shell.folder / "pod.yaml").write_text(yaml.safe_dump({"kind": "List", "items": [stored]}))
    outcomes = [
        await shell.run("check", "--explain", what, "-o", "json")
        for what in ("pods/default/web-1", "pod.json", "pod.yaml")
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    (explained,) = json.loads(outcomes[0].out)
    assert explained["object"] == "pods/default/web-1"
    assert explained["sinks"] == [{"sink": "audit", "gets": True, "routes": []}]
    assert VALUE not in outcomes[0].out


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("nothing.json", "--explain nothing.json: there is no such file; write FILE.json, FILE.yaml, - for"),
        ("pods/web-1", "--explain pods/web-1: write pods/NAMESPACE/NAME"),
        ("podz/a/b", "unknown resource 'podz', did you mean 'pods'?"),
        ("pods/default/nobody", 'pods "nobody" not found'),
        ("bad.yaml", "--explain: the sample is neither JSON nor YAML of an object: "),
        ("other.json", "--explain: the server has no kind 'Widget' of apiVersion 'example.com/v1'"),
        ("unstored.json", "--explain: an object without name or resourceVersion; take the sample from the"),
    ],
)
async def test_what_cannot_be_explained_is_said_with_the_way_out(
    shell: CommandLine, fake: FakeCluster, what: str, problem: str
) -> None:
    shell.configure(f"url = '{fake.url}'")
    (shell.folder / "bad.yaml").write_text("a: [")
    (shell.folder / "other.json").write_text('{"kind": "Widget", "apiVersion": "example.com/v1"}')
    (shell.folder / "unstored.json").write_text(json.dumps(pod()))
    outcome = await shell.run("check", "--explain", what)
    assert outcome.code == (1 if "nobody" in what else 2)
    assert outcome.err.startswith(f"kexport: {problem}")
    assert outcome.out == ""


# -- what it says -----------------------------------------------------------------------------------------


async def explained(fake: FakeCluster, text: str, obj: dict[str, Any], **options: Any) -> Any:
    client = Client(ClusterConfig(url=fake.url))
    await client.open()
    try:
        catalogue = (await survey(client)).catalogue
    finally:
        await client.close()
    loaded = config.parse(text, plugins.load().types)
    members = msgspec.json.decode(json.dumps(obj), type=dict[str, msgspec.Raw])
    known = {"cluster": "test", "change": ChangeType.MODIFIED, "origin": Origin.WATCH, **options}
    return explain(loaded, catalogue, members, **known)


def setting(**tables: Any) -> str:
    document = {"resources": [{"resource": "pods"}], "sinks": {"a": {"type": "file", "path": "x"}}, **tables}
    return toml_of(document)


@pytest.mark.parametrize(
    ("entry", "options", "reason"),
    [
        ({"resource": "deployments.apps"}, {}, "resource"),
        ({"resource": "pods", "namespaces": ["shop"]}, {}, "namespaces"),
        ({"resource": "pods", "namespaces": ["prod-*"]}, {}, "namespaces"),
        ({"resource": "pods", "label_selector": "team!=shop"}, {}, "label_selector"),
        ({"resource": "pods", "deletions": "skip"}, {"change": ChangeType.DELETED}, "deletions"),
        ({"resource": "pods", "initial": "silent"}, {"origin": Origin.SNAPSHOT}, "initial"),
        ({"resource": "widgets.example.com"}, {}, "resources[0].resource: unknown resource"),
    ],
)
async def test_why_no_stream_takes_it(
    fake: FakeCluster, entry: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    found = await explained(fake, setting(resources=[entry]), fake.create(pod()), **options)
    assert found.sinks == []
    assert found.resources[0].reason.startswith(reason)
    assert "no stream takes it" in words([found])


async def test_a_field_selector_is_left_to_the_server(fake: FakeCluster) -> None:
    entry = {"resource": "pods", "field_selector": "spec.nodeName=x"}
    found = await explained(fake, setting(resources=[entry]), fake.create(pod()))
    assert found.resources[0].reason == "if field_selector says yes, which the server decides"
    assert found.sinks[0].gets


async def test_a_limit_is_a_yes_with_a_condition_and_a_sample_a_no_with_its_share(fake: FakeCluster) -> None:
    routes = [{"sinks": ["a"], "max_events_per_second": 5.0}, {"sinks": ["a"], "sample": 1e-9}]
    found = await explained(fake, setting(routes=routes), fake.create(pod()))
    limited, sampled = found.sinks[0].routes
    assert (limited.passes, limited.reason) == (True, "as long as they are at most 5 a second")
    assert (sampled.condition, sampled.reason) == ("sample", "this version is not in the sample of 1e-09")


async def test_a_secret_is_told_as_hashed_without_its_values(fake: FakeCluster) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}
    stored = fake.create({**secret, "stringData": {"password": VALUE}})
    found = await explained(fake, setting(resources=[{"resource": "secrets"}]), stored)
    assert ("data.password", "hashed") in [(each.path, each.what) for each in found.transforms[0].effects]
    assert VALUE not in words([found])


async def test_many_effects_are_told_in_short(fake: FakeCluster) -> None:
    stored = fake.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c", "namespace": "default"},
            "data": {f"key-{number}": "x" for number in range(MOST_EFFECTS + 5)},
        }
    )
    transforms = [{"resources": ["*"], "hash": ["data[*]"]}]
    text = setting(resources=[{"resource": "configmaps"}], transforms=transforms)
    found = await explained(fake, text, stored)
    assert len(found.transforms[-1].effects) == MOST_EFFECTS + 5
    assert "and 5 more" in words([found])


async def test_it_says_of_every_object_what_the_exporter_did(fake: FakeCluster, tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "resources": [{"resource": "deployments.apps"}],
        "transforms": [{"resources": ["*"], "redact": ["env"], "drop": ["metadata.labels['b*']"]}],
        "routes": [
            {"sinks": ["big"], "where": "object.spec.replicas > 3", "sample": 0.5},
            {"sinks": ["big", "labels"], "labels": "a=1,!b"},
        ],
    }
    real = Setting(fake, tmp_path, **tables)
    stored = [
        fake.create(web(f"web-{number}", replicas=number % 7, a=str(number % 2), b=str(number % 3)))
        for number in range(12)
    ]
    async with real.exporter("big", "labels") as exporter:
        await everywhere_synced(real, exporter)
    sinks = {name: {"type": "file", "path": name} for name in ("big", "labels")}
    for obj in stored:
        found = await explained(
            fake, toml_of({**tables, "sinks": sinks}), obj, change=ChangeType.ADDED, origin=Origin.SNAPSHOT
        )
        for delivery in found.sinks:
            assert delivery.gets == (obj["metadata"]["name"] in real.names(delivery.sink))


# -- samples ----------------------------------------------------------------------------------------------


def test_several_documents_and_lists_are_taken_apart_and_times_stay_text() -> None:
    text = (
        "kind: A\nmetadata: {creationTimestamp: 2026-01-01T00:00:00Z}\n---\nkind: AList\nitems: [{kind: B}]\n"
    )
    first, second = sample.parse(text)
    assert (sample.kind(first), sample.kind(second)) == ("A", "B")
    assert bytes(first["metadata"]) == b'{"creationTimestamp":"2026-01-01T00:00:00Z"}'


@given(st.text(max_size=30))
def test_any_text_is_samples_or_a_config_error(text: str) -> None:
    try:
        found = sample.parse(text)
    except ConfigError:
        return
    assert all(isinstance(each, dict) for each in found)
