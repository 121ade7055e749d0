"""What `kexport rbac` prints, granted by a real API server, is what `kexport check` asks for."""

from __future__ import annotations

import json
import operator
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.commandline import CommandLine
from tests.testbed import Cluster

ROOT = "/apis/rbac.authorization.k8s.io/v1"
RESOURCES = """
[[resources]]
resource = "deploy"
namespaces = ["rbac-live"]
[[resources]]
resource = "configmaps"
namespaces = ["rbac-live-*"]
[[resources]]
resource = "nodes"
"""


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def applied(cluster: Cluster) -> Iterator[list[str]]:
    """The paths of what a test made, to be taken away again."""
    made: list[str] = []
    yield made
    for path in reversed(made):
        cluster.api.request("DELETE", path)


def create(cluster: Cluster, made: list[str], manifest: dict[str, Any]) -> None:
    """As `kubectl apply` would; for the user "reader" in place of the service account."""
    if "subjects" in manifest:
        subject = {"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}
        manifest["subjects"] = [subject]
    namespace = manifest["metadata"].get("namespace")
    where = f"/namespaces/{namespace}" if namespace else ""
    path = f"{ROOT}{where}/{manifest['kind'].lower()}s"
    status, body = cluster.api.request("POST", path, manifest)
    assert status == 201, body
    made.append(f"{path}/{manifest['metadata']['name']}")


async def test_what_rbac_prints_is_what_check_needs(cluster: Cluster, shell: CommandLine, applied: list[str]):
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rbac-live"}}
    cluster.api.request("POST", "/api/v1/namespaces", namespace)
    shell.configure(f"kubeconfig = '{cluster.api.kubeconfig('reader')}'", resources=RESOURCES)

    code, out, _ = await shell.run("check", "-o", "json")
    problems = [each["text"] for each in json.loads(out)["checks"] if each["status"] == "problem"]
    assert code == 2
    assert any("may not list or watch deployments.apps in namespace rbac-live;" in each for each in problems)
    assert any("may not list or watch nodes in the cluster;" in each for each in problems)
    assert any("kube-system" in each for each in problems)

    admin = str(cluster.api.kubeconfig())
    code, out, err = await shell.run("rbac", "--kubeconfig", admin, "--name", "rbac-live")
    assert code == 0, err
    for manifest in yaml.safe_load_all(out):
        create(cluster, applied, manifest)

    assert await until_it_says(shell) == 0
    code, out, err = await shell.run("check")
    assert code == 0, out + err
    assert "may list and watch configmaps in all namespaces" in out


async def test_without_any_one_of_the_printed_permissions_check_names_it(
    cluster: Cluster, shell: CommandLine, applied: list[str]
):
    """Cluster-wide and in a namespace, list, watch and get: each alone is missed."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rbac-live"}}
    cluster.api.request("POST", "/api/v1/namespaces", namespace)
    shell.configure(f"kubeconfig = '{cluster.api.kubeconfig('reader')}'", resources=RESOURCES)
    admin = str(cluster.api.kubeconfig())
    code, out, err = await shell.run("rbac", "--kubeconfig", admin, "--name", "rbac-live-each")
    assert code == 0, err
    manifests = list(yaml.safe_load_all(out))
    for manifest in manifests:
        create(cluster, applied, manifest)
    roles = [manifest for manifest in manifests if "rules" in manifest]
    tried = 0
    for role in roles:
        for permission in permissions(role):
            replace(cluster, role, [each for each in permissions(role) if each != permission])
            assert await until_it_says(shell, said(permission, role)) == 2, permission
            tried += 1
        replace(cluster, role, permissions(role))
        assert await until_it_says(shell) == 0
    print(f"\n── kexport check named each of {tried} permissions when it alone was missing")
    assert tried == 7


class Permission(NamedTuple):
    verb: str
    resource: str
    group: str
    names: tuple[str, ...]

    @property
    def rule(self) -> dict[str, Any]:
        rule = {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb]}
        return rule | ({"resourceNames": [*self.names]} if self.names else {})


def permissions(role: dict[str, Any]) -> list[Permission]:
    return [
        Permission(verb, resource, group, tuple(rule.get("resourceNames", ())))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def said(permission: Permission, role: dict[str, Any]) -> str:
    """What kexport check must say without it."""
    if permission.names:
        return "the namespace kube-system, whose uid would serve, may not be read"
    name = f"{permission.resource}.{permission.group}".rstrip(".")
    namespace = role["metadata"].get("namespace")
    where = f"in namespace {namespace}" if namespace else "in "
    return f"may not {permission.verb} {name} {where}"


def replace(cluster: Cluster, role: dict[str, Any], granted: list[Permission]) -> None:
    """Give the role these permissions and no others."""
    namespace = role["metadata"].get("namespace")
    where = f"/namespaces/{namespace}" if namespace else ""
    path = f"{ROOT}{where}/{role['kind'].lower()}s/{role['metadata']['name']}"
    status, body = cluster.api.request("PUT", path, {**role, "rules": [each.rule for each in granted]})
    assert status == 200, body


async def until_it_says(shell: CommandLine, *expected: str) -> int:
    """The exit code, once these are all the problems: the API server acts on a role a moment later."""
    deadline = time.monotonic() + 60
    while True:
        code, out, _ = await shell.run("check", "-o", "json")
        found = [each["text"] for each in json.loads(out)["checks"] if each["status"] == "problem"]
        if len(found) == len(expected) and all(map(operator.contains, found, expected)):
            return code
        assert time.monotonic() < deadline, (expected, found)


async def test_resources_has_all_that_a_real_server_serves(cluster: Cluster, shell: CommandLine):
    arguments = ("resources", "--kubeconfig", str(cluster.api.kubeconfig()))
    names = (await shell.run(*arguments, "-o", "name")).out.splitlines()
    assert {"pods", "deployments.apps", "customresourcedefinitions.apiextensions.k8s.io"} <= set(names)
    table = (await shell.run(*arguments)).out
    assert "selfsubjectaccessreviews" in table
    assert len(table.splitlines()) == len(names) + 1
