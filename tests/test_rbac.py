from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from kexport.testing.cluster import FakeCluster
from tests.commandline import CommandLine

RESOURCES = """
[[resources]]
resource = "po"
namespaces = ["shop", "web"]
[[resources]]
resource = "deploy"
namespaces = ["shop"]
[[resources]]
resource = "cm"
namespaces = ["prod-*"]
[[resources]]
resource = "nodes"
"""
NAMESPACES = ["", "shop", "web", "default"]
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete"]


class Grant(NamedTuple):
    """One thing that is allowed; namespace "" is the whole cluster."""

    verb: str
    resource: str
    namespace: str


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def grants(manifests: list[dict[str, Any]]) -> set[Grant]:
    """What the roles allow; resourceNames count as all names, as FakeCluster knows nothing finer."""
    return {
        Grant(
            verb,
            f"{resource}.{group}" if group else resource,
            role["metadata"].get("namespace", ""),
        )
        for role in manifests
        for rule in role.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def apply(granted: set[Grant], cluster: FakeCluster) -> None:
    """Deny all the rest: what a cluster does to a service account with these roles."""
    cluster.allow()
    for resource in ("pods", "deployments.apps", "configmaps", "nodes", "namespaces", "secrets"):
        for verb in VERBS:
            for namespace in NAMESPACES:
                if not {Grant(verb, resource, ""), Grant(verb, resource, namespace)} & granted:
                    cluster.deny(verb, resource, namespace=namespace)


async def manifests(shell: CommandLine, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = await shell.run("rbac", *arguments)
    assert code == 0, err
    return list(yaml.safe_load_all(out))


async def test_the_least_roles_for_a_configuration(shell: CommandLine):
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'", resources=RESOURCES)
        found = await manifests(
            shell, "--name", "export", "--namespace", "monitoring", "--service-account", "robot"
        )
    roles = {(each["kind"], each["metadata"].get("namespace")): each for each in found if "rules" in each}
    assert set(roles) == {("ClusterRole", None), ("Role", "shop"), ("Role", "web")}
    assert roles["ClusterRole", None]["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps", "nodes"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]},
    ]
    assert roles["Role", "shop"]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]},
    ]
    bindings = [each for each in found if "roleRef" in each]
    assert len(bindings) == 3
    for each in bindings:
        role = roles[each["kind"].removesuffix("Binding"), each["metadata"].get("namespace")]
        assert each["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": role["kind"],
            "name": "export",
        }
        assert each["subjects"] == [{"kind": "ServiceAccount", "name": "robot", "namespace": "monitoring"}]


async def test_what_is_granted_everywhere_is_not_granted_again(shell: CommandLine):
    resources = '[[resources]]\nresource = "pods"\n[[resources]]\nresource = "po"\nnamespaces = ["shop"]\n'
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'\nname = 'prod'", resources=resources)
        found = await manifests(shell)
    assert [each["kind"] for each in found] == ["ClusterRole", "ClusterRoleBinding"]
    assert len(found[0]["rules"]) == 1, "with a name, kube-system need not be read"


async def test_named_namespaces_need_no_cluster_role(shell: CommandLine):
    resources = '[[resources]]\nresource = "pods"\nnamespaces = ["shop"]\n'
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'\nname = 'prod'", resources=resources)
        assert [each["kind"] for each in await manifests(shell)] == ["Role", "RoleBinding"]


async def test_it_grants_what_check_asks_for_and_nothing_less_would_do(shell: CommandLine):
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'", resources=RESOURCES)
        granted = grants(await manifests(shell))
        apply(granted, cluster)
        code, out, _ = await shell.run("check")
        assert code == 0, out
        for grant in sorted(granted):
            apply(granted - {grant}, cluster)
            code, out, _ = await shell.run("check")
            assert code == 2, f"{grant} is not needed: {out}"
    assert {grant.verb for grant in granted} == {"get", "list", "watch"}


async def test_offline_takes_full_names_as_they_are(shell: CommandLine):
    resources = (
        '[[resources]]\nresource = "pods"\nnamespaces = ["shop"]\n'
        '[[resources]]\nresource = "certificates.cert-manager.io"\n'
    )
    shell.configure("name = 'prod'\nurl = 'http://127.0.0.1:1'", resources=resources)
    assert grants(await manifests(shell, "--offline")) == {
        Grant("list", "pods", "shop"),
        Grant("watch", "pods", "shop"),
        Grant("list", "certificates.cert-manager.io", ""),
        Grant("watch", "certificates.cert-manager.io", ""),
    }


@pytest.mark.parametrize("name", ["deploy", "deployments", "*", "*.apps"])
async def test_offline_refuses_what_only_a_server_can_know(shell: CommandLine, name: str):
    shell.configure("name = 'prod'", resources=f"[[resources]]\nresource = '{name}'\n")
    code, out, err = await shell.run("rbac", "--offline")
    assert (code, out) == (2, "")
    assert f"resources[0].resource: {name!r} needs a server that knows it; write it in full" in err


async def test_an_unknown_resource_is_exit_code_2(shell: CommandLine):
    async with FakeCluster() as cluster:
        shell.configure("url = 'http://127.0.0.1:1'", resources='[[resources]]\nresource = "podz"\n')
        code, out, err = await shell.run("rbac", "--url", cluster.url)
    assert (code, out) == (2, "")
    assert "resources[0].resource: unknown resource 'podz', did you mean 'pods'?" in err
