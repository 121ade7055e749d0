"""Discovery, permissions and the forms of answers are the real API server's."""

from collections.abc import AsyncIterator

import pytest

from tests.fakeclient import (
    AGGREGATED,
    ALL_MAPS,
    MAPS,
    PARTIAL,
    PARTIAL_LIST,
    WATCH_LIST,
    Client,
    config_map,
    definition,
    running,
)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


async def test_health_and_version_answer(client):
    assert await client.ask("GET", "/readyz") == (200, "ok")
    assert await client.ask("GET", "/livez") == (200, "ok")
    assert (await client.get("/version"))["gitVersion"] == "v1.37.2"


async def test_discovery_in_two_documents_tells_all_resources(client):
    async with client.session.get(client.cluster.url + "/api", headers={"Accept": AGGREGATED}) as response:
        assert response.headers["Content-Type"] == AGGREGATED
        core = (await response.json(content_type=None))["items"][0]["versions"][0]["resources"]
    pods = next(resource for resource in core if resource["resource"] == "pods")
    assert pods == {
        "resource": "pods",
        "responseKind": {"group": "", "version": "", "kind": "Pod"},
        "scope": "Namespaced",
        "singularResource": "pod",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["po"],
        "categories": ["all"],
        "subresources": [
            {
                "subresource": "status",
                "responseKind": {"group": "", "version": "", "kind": "Pod"},
                "verbs": ["get", "patch", "update"],
            }
        ],
    }
    client.cluster.create(definition())
    async with client.session.get(client.cluster.url + "/apis", headers={"Accept": AGGREGATED}) as response:
        groups = {
            item["metadata"]["name"]: item for item in (await response.json(content_type=None))["items"]
        }
    assert {"apps", "batch", "coordination.k8s.io", "apiextensions.k8s.io", "x.io"} <= set(groups)
    assert groups["x.io"]["versions"][0]["resources"][0]["responseKind"]["group"] == "x.io"


async def test_an_old_server_only_knows_discovery_group_by_group():
    async with running(aggregated_discovery=False) as client:
        assert (await client.get("/api", Accept=AGGREGATED))["kind"] == "APIVersions"
        groups = (await client.get("/apis", Accept=AGGREGATED))["groups"]
        apps = next(group for group in groups if group["name"] == "apps")
        assert apps["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
        resources = (await client.get("/apis/apps/v1"))["resources"]
        assert {"deployments", "deployments/status"} <= {resource["name"] for resource in resources}
        core = {resource["name"]: resource for resource in (await client.get("/api/v1"))["resources"]}
        assert core["bindings"]["verbs"] == ["create"]
        assert (await client.get("/apis/apps"))["kind"] == "APIGroup"


async def test_unknown_groups_are_plain_404_and_unknown_resources_a_status(client):
    assert await client.ask("GET", "/apis/nope.io/v1/foos") == (404, "404 page not found\n")
    assert await client.ask("GET", "/apis/nope.io/v1") == (404, "404 page not found\n")
    status, body = await client.ask("GET", "/api/v1/foos")
    assert (status, body["reason"], body["details"]) == (404, "NotFound", {})


async def test_requests_without_the_token_are_401():
    async with running(token="secret") as client:
        status, body = await client.ask("GET", ALL_MAPS)
        assert (status, body["reason"], body["message"]) == (401, "Unauthorized", "Unauthorized")
        assert (await client.ask("GET", ALL_MAPS, Authorization="Bearer secret"))[0] == 200


async def test_denials_are_403_in_the_words_of_the_real_server(client):
    cluster = client.cluster
    cluster.deny("list", "pods")
    status, body = await client.ask("GET", "/api/v1/pods")
    said = 'pods is forbidden: User "tester" cannot list resource "pods" in API group "" at the cluster scope'
    assert (status, body["message"], body["details"]) == (403, said, {"kind": "pods"})
    cluster.deny("*", "deployments.apps", namespace="default")
    _, body = await client.ask("GET", "/apis/apps/v1/namespaces/default/deployments?watch=1")
    assert body["message"].endswith(
        'cannot watch resource "deployments" in API group "apps" in the namespace "default"'
    )
    assert (await client.ask("GET", "/apis/apps/v1/deployments"))[0] == 200
    _, body = await client.ask("GET", "/api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Dx")
    assert body["message"].startswith('pods "x" is forbidden')
    cluster.allow("list", "pods")
    assert (await client.ask("GET", "/api/v1/pods"))[0] == 200
    cluster.allow()
    assert (await client.ask("GET", "/apis/apps/v1/namespaces/default/deployments"))[0] == 200


async def test_an_access_review_tells_what_is_denied(client):
    client.cluster.deny("watch", "secrets")

    async def allowed(verb: str) -> bool:
        spec = {"resourceAttributes": {"verb": verb, "resource": "secrets"}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        status, body = await client.ask("POST", path, {"spec": spec})
        assert status == 201
        return bool(body["status"]["allowed"])

    assert await allowed("list")
    assert not await allowed("watch")


async def test_metadata_only_forms_leave_the_rest_out_of_lists_objects_and_watches(client):
    client.cluster.create(config_map("a", data={"k": "v"}))
    body = await client.get(ALL_MAPS, Accept=PARTIAL_LIST)
    assert (body["kind"], body["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert set(body["items"][0]) == {"kind", "apiVersion", "metadata"}
    assert (await client.get(MAPS + "/a", Accept=PARTIAL))["kind"] == "PartialObjectMetadata"
    async with client.watch(f"{ALL_MAPS}?{WATCH_LIST}", Accept=PARTIAL) as stream:
        added, bookmark = await stream.lines(2)
    assert added["object"]["kind"] == bookmark["object"]["kind"] == "PartialObjectMetadata"
    assert "data" not in added["object"]
    assert (await client.ask("GET", ALL_MAPS, Accept=PARTIAL))[0] == 406
    assert (await client.ask("GET", ALL_MAPS, Accept="application/foo"))[0] == 406
