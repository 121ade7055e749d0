"""APIs behind the aggregation layer: without watch or versions, and with their own server down."""

from collections.abc import AsyncIterator

import pytest

from tests.fakeclient import AGGREGATED, Client, config_map, running

METRICS = "/apis/metrics.k8s.io/v1beta1"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running() as client:
        client.cluster.serve("metrics.k8s.io/v1beta1", "pods", "PodMetrics")
        metrics = {"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": {"name": "a"}}
        client.cluster.create(metrics | {"window": "15s"})
        yield client


async def freshness(client: Client) -> dict[str, str]:
    async with client.session.get(client.cluster.url + "/apis", headers={"Accept": AGGREGATED}) as response:
        groups = (await response.json(content_type=None))["items"]
    return {group["metadata"]["name"]: group["versions"][0]["freshness"] for group in groups}


async def test_a_resource_without_watch_and_versions_is_listed_but_never_watched(client):
    body = await client.get(f"{METRICS}/pods")
    assert (body["kind"], body["metadata"]) == ("PodMetricsList", {})
    (item,) = body["items"]
    assert (item["window"], item["metadata"]["name"]) == ("15s", "a")
    assert "resourceVersion" not in item["metadata"]
    assert "resourceVersion" not in (await client.get(f"{METRICS}/namespaces/default/pods/a"))["metadata"]
    status, body = await client.ask("GET", f"{METRICS}/pods?watch=1")
    assert (status, body["reason"]) == (405, "MethodNotAllowed")
    (described,) = (await client.get(METRICS))["resources"]
    assert (described["name"], described["verbs"]) == ("pods", ["get", "list"])


async def test_a_resource_can_have_watch_and_yet_no_versions(client):
    client.cluster.serve("odd.io/v1", "odds", "Odd", verbs=("get", "list", "watch"))
    client.cluster.create({"apiVersion": "odd.io/v1", "kind": "Odd", "metadata": {"name": "a"}})
    async with client.watch("/apis/odd.io/v1/odds?watch=1") as stream:
        line = await stream.line()
    assert (line["type"], "resourceVersion" in line["object"]["metadata"]) == ("ADDED", False)


async def test_a_group_whose_server_is_down_is_stale_in_discovery_and_503_itself(client):
    assert (await freshness(client))["metrics.k8s.io"] == "Current"
    with client.cluster.unavailable("metrics.k8s.io"):
        for path in (METRICS, f"{METRICS}/pods", f"{METRICS}/pods?watch=1"):
            assert await client.ask("GET", path) == (503, "service unavailable\n")
        assert await client.ask("GET", "/apis/metrics.k8s.io/v2/pods") == (404, "404 page not found\n")
        assert (await client.get("/apis/metrics.k8s.io"))["kind"] == "APIGroup"
        fresh = await freshness(client)
        assert (fresh["metrics.k8s.io"], fresh["apps"]) == ("Stale", "Current")
        assert "metrics.k8s.io" in [group["name"] for group in (await client.get("/apis"))["groups"]]
        assert (await client.ask("GET", "/apis/apps/v1/deployments"))[0] == 200
    assert (await client.ask("GET", f"{METRICS}/pods"))[0] == 200


async def test_a_namespace_is_emptied_but_not_gone_while_a_group_is_down(client):
    client.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t"}})
    client.cluster.create({**config_map("a"), "metadata": {"name": "a", "namespace": "t"}})
    with client.cluster.unavailable("metrics.k8s.io"):
        await client.ask("DELETE", "/api/v1/namespaces/t")
        assert (await client.get("/api/v1/namespaces/t/configmaps"))["items"] == []
        assert (await client.get("/api/v1/namespaces/t"))["status"]["phase"] == "Terminating"
    assert (await client.ask("GET", "/api/v1/namespaces/t"))[0] == 404
