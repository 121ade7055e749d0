"""What the real helm makes of the chart: what it refuses, what it grants, and what it says to kexport."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from kexport import config, plugins
from tests.commandline import CommandLine
from tests.exporter import toml_of
from tests.test_chart import GIVEN, GOOD, VALUES, merged
from tests.test_rbac import grants
from tests.testbed import chartfiles
from tests.testbed.cache import require
from tests.testbed.helm import CHART, Helm
from tests.testbed.recipes import PROMTOOL


class Renderer:
    def __init__(self, folder: Path) -> None:
        self.helm = Helm(folder)
        self._folder = folder

    def file(self, values: Path | dict[str, Any]) -> Path:
        if isinstance(values, Path):
            return values
        path = self._folder / "values.yaml"
        path.write_text(json.dumps(values), encoding="utf-8")
        return path

    def render(self, values: Path | dict[str, Any], *, release: str = "kexport") -> list[dict[str, Any]]:
        text = self.helm.run(
            "template", release, CHART, "--namespace=monitoring", "--values", self.file(values)
        )
        return [each for each in yaml.safe_load_all(text) if each]

    def refusal(self, values: dict[str, Any]) -> str:
        outcome = self.helm.try_("template", "kexport", CHART, "--values", self.file(values))
        assert outcome.code != 0, outcome.out
        return outcome.err


@pytest.fixture
def renderer(tmp_path: Path) -> Renderer:
    return Renderer(tmp_path)


def only(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (each for each in manifests if each["kind"] == kind and "rules" not in each)
    return found


def configuration(manifests: list[dict[str, Any]]) -> str:
    (text,) = (each["data"]["config.toml"] for each in manifests if "config.toml" in each.get("data", ()))
    return str(text)


def without_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: without_none(value) for key, value in node.items() if value is not None}
    return node


@pytest.mark.parametrize("path", GIVEN, ids=lambda path: path.name)
def test_helm_lints_it_strictly(renderer: Renderer, path: Path):
    assert "0 chart(s) failed" in renderer.helm.run("lint", "--strict", CHART, "--values", path)


def test_what_the_least_values_make_is_the_snapshot():
    stored = (CHART / "ci" / "snapshot.yaml").read_text(encoding="utf-8")
    assert stored == chartfiles.snapshot(), (
        "look at the difference, then run python -m tests.testbed.chartfiles"
    )


@pytest.mark.parametrize("path", GIVEN, ids=lambda path: path.name)
def test_the_configuration_arrives_as_it_was_given(
    renderer: Renderer, path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("KAFKA_PASSWORD", "KAFKA_USER"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLACK_URL", "https://slack.example/x")
    text = configuration(renderer.render(path))
    given = merged(VALUES, yaml.safe_load(path.read_text(encoding="utf-8")))["config"]
    assert tomllib.loads(text) == without_none(given)
    if "${file:" in text:
        secret = renderer.file({})
        text = text.replace("/run/secrets/kexport/kafka/password", str(secret))
    config.parse(text, plugins.load().types)


RBAC_CASES: dict[str, dict[str, Any]] = {
    "everywhere": {"resources": [{"resource": "pods"}, {"resource": "deployments.apps"}]},
    "by name": {
        "cluster": {"name": "prod"},
        "resources": [{"resource": "pods", "namespaces": ["shop", "web"]}],
    },
    "by pattern": {"resources": [{"resource": "secrets", "namespaces": ["prod-*"]}, {"resource": "nodes"}]},
    "mixed": {
        "cluster": {"name": "prod"},
        "resources": [
            {"resource": "pods"},
            {"resource": "pods", "namespaces": ["shop"]},
            {"resource": "configmaps", "namespaces": ["shop"]},
            {"resource": "certificates.cert-manager.io", "namespaces": ["shop", "a?"]},
            {"resource": "ingresses.networking.k8s.io", "namespaces": ["web"]},
            {"resource": "services", "namespaces": ["web", "shop"]},
        ],
    },
}


def access(manifests: list[dict[str, Any]]) -> list[str]:
    """Roles and bindings without what is the chart's own: labels."""
    found = []
    for each in manifests:
        if each["apiVersion"].startswith("rbac."):
            each["metadata"].pop("labels", None)
            found.append(json.dumps(each, sort_keys=True))
    return sorted(found)


@pytest.mark.parametrize("case", RBAC_CASES)
async def test_it_grants_what_kexport_rbac_prints(renderer: Renderer, tmp_path: Path, case: str):
    values = {**GOOD, **RBAC_CASES[case]}
    rendered = renderer.render({"config": values, "serviceAccount": {"name": "robot"}})
    (tmp_path / "config.toml").write_text(toml_of(values), encoding="utf-8")
    code, out, err = await CommandLine(tmp_path).run(
        *(
            "rbac",
            "--offline",
            "--name=monitoring:kexport",
            "--namespace=monitoring",
            "--service-account=robot",
        )
    )
    assert code == 0, err
    printed = list(yaml.safe_load_all(out))
    assert access(rendered) == access(printed)
    assert {grant.verb for grant in grants(printed)} <= {"get", "list", "watch"}


@pytest.mark.parametrize("name", ["deploy", "*", "*.apps", "deployments.v1.apps", "pods.v1."])
async def test_kexport_and_the_chart_refuse_the_same_names(renderer: Renderer, tmp_path: Path, name: str):
    values = {**GOOD, "resources": [{"resource": name}]}
    assert f"no permissions can be made of {json.dumps(name)}" in renderer.refusal({"config": values})
    (tmp_path / "config.toml").write_text(toml_of(values), encoding="utf-8")
    code, _, err = await CommandLine(tmp_path).run("rbac", "--offline")
    assert code == 2
    assert f"{name!r} needs a server that knows it; write it in full" in err


def test_common_labels_are_on_everything_and_extra_objects_are_as_they_are_given(renderer: Renderer):
    extra = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "beside"},
        "data": {"a": "{{ b }}"},
    }
    labels = {"team": "platform"}
    documents = renderer.render({**config_with(), "commonLabels": labels, "extraObjects": [extra]})
    assert extra in documents
    made = [each for each in documents if each != extra]
    assert made
    assert all(each["metadata"]["labels"]["team"] == "platform" for each in made)
    (stateful,) = [each for each in made if each["kind"] == "StatefulSet"]
    assert stateful["spec"]["template"]["metadata"]["labels"]["team"] == "platform"
    assert "team" not in stateful["spec"]["selector"]["matchLabels"]


def test_it_grants_nothing_when_it_is_told_not_to(renderer: Renderer):
    rendered = renderer.render({"config": GOOD, "rbac": {"create": False}})
    assert access(rendered) == []


def config_with(**changes: Any) -> dict[str, Any]:
    return {"config": merged(GOOD, changes)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "/config/resources"),
        ({"confg": {}}, "'confg'"),
        (config_with(sinks={"a": {"bootstrap_severs": ["x"]}}), "'bootstrap_severs'"),
        (config_with(sinks={"a": {"batch": {"max_events": 0}}}), "/config/sinks/a/batch/max_events"),
        (config_with(sinks={"a": {"type": "kafak"}}), 'no sink type "kafak", only file, kafka, otlp, s3'),
        (config_with(sinks={"a": {"password": "hunter2"}}), "sinks.a.password: would stand in a ConfigMap"),
        (
            config_with(telemetry={"otlp_headers": {"authorization": "Bearer hunter2"}}),
            "config.telemetry.otlp_headers.authorization: would stand in a ConfigMap",
        ),
        (config_with(http={"listen": "127.0.0.1:9273"}), "config.http.listen: the probes cannot reach"),
        (config_with(journal={"path": "state"}), '"state" is not on the volume'),
        (
            {**config_with(), "persistence": {"enabled": False, "existingClaim": "mine"}},
            'persistence.existingClaim: "mine" would not be used',
        ),
        (
            {**config_with(), "commonLabels": {"helm.sh/chart": "x"}},
            "commonLabels: helm.sh/chart is the chart's own",
        ),
        (config_with(shutdown_seconds=45), "terminationGracePeriodSeconds: 45 is not longer"),
        (config_with(resources=[{"resource": "deploy"}]), 'no permissions can be made of "deploy"'),
        (config_with(resources=[{"resource": "*.apps"}]), 'no permissions can be made of "*.apps"'),
        (config_with(resources=[{"resource": "deployments.v1.apps"}]), 'made of "deployments.v1.apps"'),
        (config_with(resources=[{"resource": "nodes", "namespaces": ["a"]}]), "nodes is not namespaced"),
        ({**config_with(), "rbac": {"clusterWide": False}}, "config.cluster.name: without it"),
        (
            {**config_with(cluster={"name": "x"}), "rbac": {"clusterWide": False}},
            "config.resources: an entry without namespaces",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_place_and_the_way_out(
    renderer: Renderer, values: dict[str, Any], message: str
):
    refusal = renderer.refusal(values)
    assert message in refusal
    assert "hunter2" not in refusal


@pytest.mark.parametrize(
    "release", ["kexport", "x", "a-release-with-a-name-of-fifty-three-characters-which-is"]
)
def test_names_stay_short_enough(renderer: Renderer, release: str):
    for each in renderer.render(CHART / "ci" / "least-values.yaml", release=release[:53]):
        assert len(each["metadata"]["name"]) <= 63 or each["apiVersion"].startswith("rbac.")
        assert all(len(value) <= 63 for value in each["metadata"].get("labels", {}).values())
        if each["kind"] == "StatefulSet":
            assert len(f"{each['metadata']['name']}-0123456789") <= 63


def restarts(renderer: Renderer, before: dict[str, Any], after: dict[str, Any], *, reload: str) -> bool:
    """Whether the Pods are made anew."""
    templates = [
        only(renderer.render({"config": each, "reload": reload}), "StatefulSet")["spec"]["template"]
        for each in (before, after)
    ]
    return bool(templates[0] != templates[1])


@pytest.mark.parametrize(
    ("change", "reload", "expected"),
    [
        ({"sinks": {"b": {"type": "file", "path": "/tmp/b"}}}, "hot", False),
        ({"resources": [{"resource": "nodes"}]}, "hot", False),
        ({"resources": [{"resource": "nodes"}]}, "restart", True),
        ({"journal": {"max_bytes": 1 << 30}}, "hot", True),
        ({"cluster": {"name": "other"}}, "hot", True),
    ],
)
def test_the_pod_restarts_only_for_what_needs_it(
    renderer: Renderer, change: dict[str, Any], reload: str, *, expected: bool
):
    assert restarts(renderer, GOOD, merged(GOOD, change), reload=reload) is expected


def test_prometheus_understands_every_expression_of_the_dashboard(renderer: Renderer, tmp_path: Path):
    (text,) = (
        each["data"]["kexport.json"]
        for each in renderer.render(CHART / "ci" / "everything-values.yaml")
        if each["metadata"]["name"].endswith("-dashboard")
    )
    targets = [target for panel in json.loads(text)["panels"] for target in panel.get("targets", ())]
    rules = [
        # What Grafana puts in for the variable that the dashboard offers.
        {"record": f"panel:{number}", "expr": target["expr"].replace("$namespace", "a|b")}
        for number, target in enumerate(targets)
    ]
    assert not [rule for rule in rules if "$" in rule["expr"]]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    command = [str(require(PROMTOOL) / "promtool"), "check", "rules", "--lint=all", "rules.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(targets)} rules found" in done.stdout
