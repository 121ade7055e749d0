"""What real API servers say to the rendered chart: the oldest Kubernetes that it is for, and the newest.

Every field must be known to the server, the Prometheus operator's own definitions hold for its objects, and
the namespace enforces Pod Security "restricted". Nothing is stored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.exporting import wait_until
from tests.live.test_chart_render_live import Renderer, only
from tests.test_chart import GIVEN, GOOD, PRESETS
from tests.testbed import Cluster
from tests.testbed.cache import require
from tests.testbed.helm import CHART, Helm
from tests.testbed.recipes import MONITORING

PATHS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Pod": "/api/v1/namespaces/{}/pods",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "PrometheusRule": "/apis/monitoring.coreos.com/v1/namespaces/{}/prometheusrules",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ServiceMonitor": "/apis/monitoring.coreos.com/v1/namespaces/{}/servicemonitors",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
}
HOME = "chart-restricted"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def renderer(tmp_path: Path) -> Renderer:
    return Renderer(tmp_path)


@pytest.fixture(scope="module", params=["oldest_cluster", "cluster"])
def site(request: pytest.FixtureRequest) -> Cluster:
    """A cluster with restricted namespaces and the operator's definitions."""
    cluster: Cluster = request.getfixturevalue(request.param)
    for name in (HOME, "shop", "web"):
        namespace = {"metadata": {"name": name, "labels": RESTRICTED}}
        assert cluster.api.request("POST", "/api/v1/namespaces", namespace)[0] in {201, 409}
    for plural in ("servicemonitors", "prometheusrules"):
        define(cluster, plural)
    return cluster


def define(cluster: Cluster, plural: str) -> None:
    """The operator's definition, and wait until the server serves it."""
    file = require(MONITORING) / f"monitoring.coreos.com_{plural}.yaml"
    definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert cluster.api.request("POST", DEFINITIONS, definition)[0] in {201, 409}
    path = f"/apis/monitoring.coreos.com/v1/{plural}"
    wait_until(lambda: cluster.api.request("GET", path)[0] == 200, seconds=60, what=f"{plural} are served")


@pytest.mark.parametrize("path", GIVEN, ids=lambda path: path.name)
def test_it_takes_every_field_of_every_object(renderer: Renderer, site: Cluster, path: Path):
    for manifest in renderer.render(path):
        if manifest["kind"] == "StatefulSet":
            # Only Pods themselves are held to the policy: its template is sent as one, too.
            assert_admitted(site, pod_of(manifest))
        assert_admitted(site, manifest)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_helm_installs_each_preset_as_far_as_the_server_can_say(tmp_path: Path, site: Cluster, path: Path):
    helm = Helm(tmp_path, kubeconfig=site.api.kubeconfig())
    told = helm.run("install", "kexport", CHART, "--namespace", HOME, "--dry-run=server", "--values", path)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))["config"]
    assert f"watches, as {HOME}/kexport:" in told
    assert all(f"\n  {each['resource']} in " in told for each in config["resources"])
    assert all(f"\n  {name} ({sink['type']})" in told for name, sink in config["sinks"].items())
    assert "journal-kexport-0. `helm uninstall` leaves it" in " ".join(told.split())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"securityContext": {"allowPrivilegeEscalation": True}}, "allowPrivilegeEscalation != false"),
        ({"securityContext": {"capabilities": {"drop": []}}}, "unrestricted capabilities"),
        ({"podSecurityContext": {"runAsNonRoot": False}}, "runAsNonRoot != true"),
        ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser=0"),
        ({"podSecurityContext": {"seccompProfile": None}}, "seccompProfile"),
        ({"extraVolumes": [{"name": "h", "hostPath": {"path": "/"}}]}, "restricted volume types"),
    ],
)  # fmt: skip
def test_the_namespace_refuses_a_pod_that_is_locked_down_less(
    renderer: Renderer, site: Cluster, values: dict[str, Any], reason: str
):
    """So it is the chart's doing that the others are let in."""
    pod = pod_of(only(renderer.render({"config": GOOD, **values}), "StatefulSet"))
    status, body = dry_run(site, pod)
    assert status == 403, body
    message = json.loads(body)["message"]
    assert 'violates PodSecurity "restricted:latest"' in message
    assert reason in message


@pytest.mark.parametrize(
    ("kind", "place", "bad"),
    [
        ("ServiceMonitor", ("endpoints", 0, "interval"), "half a minute"),
        ("ServiceMonitor", ("endpoints", 0, "schema"), "http"),
        ("PrometheusRule", ("groups", 0, "rules", 0, "for"), "soon"),
        ("PrometheusRule", ("groups", 0, "rules", 0, "labels"), {"severity": 1}),
    ],
)
def test_the_operators_definitions_refuse_what_is_wrong(
    renderer: Renderer, site: Cluster, kind: str, place: tuple[Any, ...], bad: Any
):
    rendered = renderer.render(CHART / "ci" / "everything-values.yaml")
    (manifest,) = (each for each in rendered if each["kind"] == kind)
    node = manifest["spec"]
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = bad
    status, body = dry_run(site, manifest)
    assert status in {400, 422}, body
    assert str(place[-1]) in json.loads(body)["message"]


def test_a_server_that_is_too_old_is_refused(renderer: Renderer):
    least = CHART / "ci" / "least-values.yaml"
    renderer.helm.run("template", "kexport", CHART, "--kube-version=1.27.0", "--values", least)
    outcome = renderer.helm.try_("template", "kexport", CHART, "--kube-version=1.26.15", "--values", least)
    assert outcome.code != 0
    assert "kubeVersion: >=1.27.0-0" in outcome.err


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """As its controller would make it."""
    template = json.loads(json.dumps(workload["spec"]["template"]))
    pod = {**template, "kind": "Pod", "apiVersion": "v1", "metadata": {**template["metadata"], "name": "x"}}
    volumes = pod["spec"]["volumes"]
    if all(volume["name"] != "journal" for volume in volumes):
        volumes.append({"name": "journal", "persistentVolumeClaim": {"claimName": "journal-x"}})
    return pod


def assert_admitted(cluster: Cluster, manifest: dict[str, Any]) -> None:
    status, body = dry_run(cluster, manifest)
    assert status == 201, f"{manifest['kind']}: {body.decode()}"


def dry_run(cluster: Cluster, manifest: dict[str, Any]) -> tuple[int, bytes]:
    """What the server would do; a field that it does not know is an error."""
    namespace = manifest["metadata"].get("namespace")
    if namespace not in {"shop", "web"}:
        namespace = HOME
    if manifest["kind"] not in {"ClusterRole", "ClusterRoleBinding"}:
        manifest["metadata"]["namespace"] = namespace
    path = PATHS[manifest["kind"]].format(namespace)
    return cluster.api.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", manifest)
