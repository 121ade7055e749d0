"""FakeCluster keeps to what the real API server does; each test asks over HTTP, as kexport does."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import yaml

from kexport.testing.cluster import FakeCluster
from kexport.testing.failure import ApiFailure

PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
MERGE = {"Content-Type": "application/merge-patch+json"}
MAPS = "/api/v1/namespaces/default/configmaps"
ALL_MAPS = "/api/v1/configmaps"
WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


class Client:
    """The least that speaks to a cluster: a status and a body, or the lines of a watch."""

    def __init__(self, cluster: FakeCluster, session: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self.session = session

    async def ask(self, method: str, path: str, body: Any = None, **headers: Any) -> tuple[int, Any]:
        async with self.session.request(
            method, self.cluster.url + path, data=None if body is None else json.dumps(body), headers=headers
        ) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def get(self, path: str, **headers: Any) -> Any:
        status, body = await self.ask("GET", path, **headers)
        assert status == 200, body
        return body

    @contextlib.asynccontextmanager
    async def watch(self, path: str, **headers: Any) -> AsyncIterator["Stream"]:
        async with self.session.get(self.cluster.url + path, headers=headers) as response:
            assert response.status == 200, await response.text()
            yield Stream(response)

    async def versions(self, path: str = ALL_MAPS) -> str:
        return str((await self.get(path))["metadata"]["resourceVersion"])


class Stream:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def line(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            parsed: dict[str, Any] = json.loads(await self.response.content.readline())
            return parsed

    async def lines(self, count: int) -> list[dict[str, Any]]:
        return [await self.line() for _ in range(count)]

    async def rest(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.response.content.read()

    async def silent(self) -> None:
        """Assert that nothing arrives, however long the loop gets to deliver it."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await self.response.content.readline()


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Client]:
    async with FakeCluster(**options) as cluster, aiohttp.ClientSession() as session:
        yield Client(cluster, session)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


def config_map(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} | more


def labelled(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "i"}]} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def event(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "reason": "Tested"}


def definition(*versions: str) -> dict[str, Any]:
    served = [
        {"name": name, "served": True, "storage": not index} for index, name in enumerate(versions or ("v1",))
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.x.io"},
        "spec": {
            "group": "x.io",
            "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"]},
            "versions": served,
        },
    }


def foo(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {"name": name}} | more


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def kinds_of(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["type"], line["object"]["metadata"].get("name", "")) for line in lines]


def version_of(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


# Store and writes


async def test_every_write_is_one_revision_and_the_server_stamps_the_object(client):
    before = client.cluster.revision
    status, made = await client.ask(
        "POST", MAPS, config_map("a", data={"k": "v"}), **{"User-Agent": "tool/1.2"}
    )
    metadata = made["metadata"]
    assert status == 201
    assert version_of(made) == client.cluster.revision == before + 1
    assert metadata["namespace"] == "default"
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["managedFields"][0]["manager"] == "tool"
    assert metadata["managedFields"][0]["fieldsV1"] == {"f:data": {".": {}, "f:k": {}}}


async def test_a_second_object_of_the_same_name_is_refused(client):
    client.cluster.create(config_map("a"))
    status, body = await client.ask("POST", MAPS, config_map("a"))
    assert (status, body["reason"], body["message"]) == (
        409,
        "AlreadyExists",
        'configmaps "a" already exists',
    )
    assert body["details"] == {"name": "a", "kind": "configmaps"}


async def test_a_name_is_generated_required_and_checked(client):
    status, made = await client.ask("POST", MAPS, {"metadata": {"generateName": "g-"}})
    assert status == 201
    assert made["metadata"]["name"].startswith("g-")
    assert len(made["metadata"]["name"]) == 7
    status, body = await client.ask("POST", MAPS, {"metadata": {}})
    assert (status, body["reason"], body["details"]["causes"][0]["reason"]) == (
        422,
        "Invalid",
        "FieldValueRequired",
    )
    status, body = await client.ask("POST", MAPS, config_map("Not_A_Name"))
    assert (status, body["details"]["causes"][0]["field"]) == (422, "metadata.name")


async def test_a_body_that_disagrees_with_the_url_is_refused(client):
    other = {"metadata": {"name": "a", "namespace": "kube-system"}}
    assert (await client.ask("POST", MAPS, other))[0] == 400
    assert (await client.ask("POST", MAPS, pod("a")))[0] == 400
    client.cluster.create(config_map("a"))
    assert (await client.ask("PUT", MAPS + "/a", config_map("b")))[0] == 400
    async with client.session.post(client.cluster.url + MAPS, data="{bad") as response:
        assert response.status == 400


async def test_creating_in_a_namespace_that_does_not_exist_is_404_and_listing_it_is_empty(client):
    status, body = await client.ask("POST", "/api/v1/namespaces/nope/configmaps", config_map("a"))
    assert (status, body["message"]) == (404, 'namespaces "nope" not found')
    assert (await client.get("/api/v1/namespaces/nope/configmaps"))["items"] == []


async def test_system_namespaces_exist_with_uids(client):
    spaces = {space["metadata"]["name"]: space for space in (await client.get("/api/v1/namespaces"))["items"]}
    assert {"default", "kube-system"} <= set(spaces)
    assert spaces["kube-system"]["metadata"]["uid"] != spaces["default"]["metadata"]["uid"]


async def test_a_put_from_a_stale_version_conflicts_and_one_that_changes_nothing_is_not_written(client):
    first = client.cluster.create(config_map("a", data={"k": "1"}))
    status, second = await client.ask("PUT", MAPS + "/a", first | {"data": {"k": "2"}})
    assert status == 200
    status, body = await client.ask("PUT", MAPS + "/a", first | {"data": {"k": "3"}})
    assert (status, body["reason"]) == (409, "Conflict")
    assert body["message"].startswith(
        'Operation cannot be fulfilled on configmaps "a": the object has been modified'
    )
    status, same = await client.ask("PUT", MAPS + "/a", second)
    assert (status, version_of(same)) == (200, version_of(second))
    assert client.cluster.revision == version_of(second)


async def test_a_merge_patch_removes_with_null_and_respects_a_version_in_it(client):
    made = client.cluster.create(config_map("a", data={"k": "1", "l": "2"}))
    status, patched = await client.ask("PATCH", MAPS + "/a", {"data": {"k": None, "m": "3"}}, **MERGE)
    assert (status, patched["data"]) == (200, {"l": "2", "m": "3"})
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": None}
    assert (await client.ask("PATCH", MAPS + "/a", stale, **MERGE))[0] == 409
    assert (await client.ask("PATCH", MAPS + "/a", {}, **{"Content-Type": "application/foo"}))[0] == 415
    assert (await client.ask("PATCH", MAPS + "/b", {}, **MERGE))[0] == 404


async def test_the_status_is_written_only_through_its_subresource_and_generation_counts_specs(client):
    pods = "/api/v1/namespaces/default/pods"
    _, made = await client.ask("POST", pods, pod("p") | {"status": {"phase": "Running"}})
    assert made["status"]["phase"] == "Pending"
    change = {"spec": {"nodeName": "n"}, "status": {"phase": "Running"}}
    _, body = await client.ask("PATCH", pods + "/p/status", change, **MERGE)
    assert (body["status"]["phase"], "nodeName" in body["spec"], body["metadata"]["generation"]) == (
        "Running",
        False,
        1,
    )
    assert body["metadata"]["managedFields"][-1]["subresource"] == "status"
    _, body = await client.ask("PATCH", pods + "/p", {**change, "status": {"phase": "Failed"}}, **MERGE)
    assert (body["status"]["phase"], body["spec"]["nodeName"], body["metadata"]["generation"]) == (
        "Running",
        "n",
        2,
    )
    client.cluster.create(config_map("a"))
    assert (await client.ask("GET", MAPS + "/a/status"))[0] == 404


async def test_the_strings_of_a_secret_become_its_data(client):
    path = "/api/v1/namespaces/default/secrets"
    _, made = await client.ask("POST", path, {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    assert (made["data"], made["type"], "stringData" in made) == ({"a": "Yg=="}, "Opaque", False)


async def test_deleting_answers_with_a_status_and_then_404(client):
    made = client.cluster.create(config_map("a"))
    wrong = {"preconditions": {"uid": "x"}}
    assert (await client.ask("DELETE", MAPS + "/a", wrong))[0] == 409
    status, body = await client.ask("DELETE", MAPS + "/a")
    assert (status, body["status"], body["details"]["uid"]) == (200, "Success", made["metadata"]["uid"])
    status, body = await client.ask("DELETE", MAPS + "/a")
    assert (status, body["message"]) == (404, 'configmaps "a" not found')


async def test_finalizers_hold_a_deleted_object_until_they_are_gone(client):
    held = client.cluster.create({**config_map("a"), "metadata": {"name": "a", "finalizers": ["x.io/y"]}})
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={version_of(held)}") as stream:
        status, body = await client.ask("DELETE", MAPS + "/a")
        assert (status, "deletionTimestamp" in body["metadata"]) == (200, True)
        await client.ask("DELETE", MAPS + "/a")
        await client.ask("PATCH", MAPS + "/a", {"metadata": {"finalizers": None}}, **MERGE)
        modified, deleted = await stream.lines(2)
    assert kinds_of([modified, deleted]) == [("MODIFIED", "a"), ("DELETED", "a")]
    assert deleted["object"]["metadata"]["finalizers"] == ["x.io/y"]
    assert version_of(deleted["object"]) == version_of(modified["object"]) + 1


async def test_a_pod_on_a_node_is_given_time_and_one_without_is_marked_and_gone(client):
    pods = "/api/v1/namespaces/default/pods"
    client.cluster.create(pod("free"))
    start = version_of(client.cluster.create(pod("placed", nodeName="n")))
    async with client.watch(f"/api/v1/pods?watch=1&resourceVersion={start}") as stream:
        await client.ask("DELETE", pods + "/free")
        await client.ask("DELETE", pods + "/placed")
        await client.ask("DELETE", pods + "/placed?gracePeriodSeconds=0")
        lines = await stream.lines(5)
    free, placed = ("MODIFIED", "free"), ("MODIFIED", "placed")
    assert kinds_of(lines) == [free, ("DELETED", "free"), placed, placed, ("DELETED", "placed")]
    assert [line["object"]["metadata"]["deletionGracePeriodSeconds"] for line in lines] == [0, 0, 30, 0, 0]


async def test_deleting_a_collection_deletes_what_is_selected(client):
    for name, label in (("a", "1"), ("b", "2"), ("c", "1")):
        client.cluster.create(labelled(name, {"x": label}))
    status, body = await client.ask("DELETE", MAPS + "?labelSelector=x%3D1")
    assert (status, names(body["items"])) == (200, ["a", "c"])
    assert names(client.cluster.list("configmaps")) == ["b"]
    assert (await client.ask("DELETE", "/api/v1/namespaces"))[0] == 405


async def test_a_deleted_namespace_takes_its_objects_with_it(client):
    client.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t"}})
    for name in ("a", "b"):
        client.cluster.create({**config_map(name), "metadata": {"name": name, "namespace": "t"}})
    start = client.cluster.revision
    async with (
        client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as maps,
        client.watch(f"/api/v1/namespaces?watch=1&resourceVersion={start}") as spaces,
    ):
        await client.ask("DELETE", "/api/v1/namespaces/t")
        assert kinds_of(await maps.lines(2)) == [("DELETED", "a"), ("DELETED", "b")]
        assert kinds_of(await spaces.lines(2)) == [("MODIFIED", "t"), ("DELETED", "t")]


async def test_a_terminating_namespace_takes_nothing_new_and_goes_with_its_last_object(client):
    client.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t"}})
    held = {"name": "a", "namespace": "t", "finalizers": ["x.io/y"]}
    client.cluster.create({**config_map("a"), "metadata": held})
    _, space = await client.ask("DELETE", "/api/v1/namespaces/t")
    assert space["status"]["phase"] == "Terminating"
    path = "/api/v1/namespaces/t/configmaps"
    assert (await client.ask("POST", path, config_map("b")))[0] == 403
    await client.ask("PATCH", path + "/a", {"metadata": {"finalizers": None}}, **MERGE)
    assert (await client.ask("GET", "/api/v1/namespaces/t"))[0] == 404


# Discovery, access and the rest of HTTP


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


# LIST


async def test_a_list_has_the_kind_its_items_have_not_and_the_keys_are_in_order(client):
    client.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})
    for namespace, name in (("default", "b"), ("default", "a"), ("a", "z")):
        client.cluster.create({**config_map(name), "metadata": {"name": name, "namespace": namespace}})
    body = await client.get(ALL_MAPS)
    assert list(body) == ["kind", "apiVersion", "metadata", "items"]
    assert (body["kind"], body["apiVersion"]) == ("ConfigMapList", "v1")
    assert names(body["items"]) == ["z", "a", "b"]
    assert not {"kind", "apiVersion"} & set(body["items"][0])
    assert version_of(body) == client.cluster.revision
    assert names((await client.get(MAPS))["items"]) == ["a", "b"]


async def test_a_list_reads_now_or_exactly_the_version_that_is_asked_for(client):
    first = version_of(client.cluster.create(config_map("a", data={"k": "1"})))
    client.cluster.patch("configmaps", "default", "a", {"data": {"k": "2"}})
    client.cluster.create(config_map("b"))

    async def read(query: str) -> tuple[int, list[str]]:
        body = await client.get(f"{ALL_MAPS}?{query}")
        return version_of(body), [item.get("data", {}).get("k") for item in body["items"]]

    now = (client.cluster.revision, ["2", None])
    assert await read("") == now
    assert await read("resourceVersion=0") == now
    assert await read(f"resourceVersion={first}") == now
    assert await read(f"resourceVersion={first}&resourceVersionMatch=NotOlderThan") == now
    assert await read(f"resourceVersion={first}&resourceVersionMatch=Exact") == (first, ["1"])
    assert await read(f"resourceVersion={first}&limit=5") == (first, ["1"])
    by_name = f"fieldSelector=metadata.name%3Da&resourceVersionMatch=Exact&resourceVersion={first}"
    assert await read(by_name) == (first, ["1"])


async def test_pages_share_one_version_and_count_what_is_left(client):
    for name in "abcde":
        client.cluster.create(config_map(name))
    page = await client.get(f"{MAPS}?limit=2")
    assert (names(page["items"]), page["metadata"]["remainingItemCount"]) == (["a", "b"], 3)
    client.cluster.delete("configmaps", "default", "c")
    second = await client.get(f"{MAPS}?limit=2&continue={page['metadata']['continue']}")
    assert (names(second["items"]), version_of(second)) == (["c", "d"], version_of(page))
    third = await client.get(f"{MAPS}?limit=2&continue={second['metadata']['continue']}")
    assert (names(third["items"]), "continue" in third["metadata"]) == (["e"], False)
    assert len((await client.get(f"{MAPS}?limit=2&resourceVersion=0"))["items"]) == 4


async def test_a_page_with_a_selector_counts_nothing_and_may_be_followed_by_an_empty_one(client):
    for name, label in (("a", "1"), ("b", "2"), ("c", "2")):
        client.cluster.create(labelled(name, {"x": label}))
    page = await client.get(f"{ALL_MAPS}?limit=1&labelSelector=x%3D1")
    assert (names(page["items"]), "remainingItemCount" in page["metadata"]) == (["a"], False)
    rest = await client.get(f"{ALL_MAPS}?limit=1&labelSelector=x%3D1&continue={page['metadata']['continue']}")
    assert (rest["items"], "continue" in rest["metadata"]) == ([], False)


async def test_compaction_makes_the_past_a_410_and_a_continue_token_gets_a_new_one(client):
    for name in "abc":
        client.cluster.create(config_map(name))
    page = await client.get(f"{ALL_MAPS}?limit=1")
    client.cluster.create(config_map("d"))
    client.cluster.compact()
    past = version_of(page)
    status, body = await client.ask("GET", f"{ALL_MAPS}?resourceVersion={past}&resourceVersionMatch=Exact")
    assert (status, body["reason"], body["message"]) == (
        410,
        "Expired",
        "The resourceVersion for the provided list is too old.",
    )
    status, body = await client.ask("GET", f"{ALL_MAPS}?limit=1&continue={page['metadata']['continue']}")
    assert (status, body["reason"]) == (410, "Expired")
    rest = await client.get(f"{ALL_MAPS}?continue={body['metadata']['continue']}")
    assert names(rest["items"]) == ["b", "c", "d"]
    now = client.cluster.revision
    assert (
        len((await client.get(f"{ALL_MAPS}?resourceVersion={now}&resourceVersionMatch=Exact"))["items"]) == 4
    )


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=a", ["a"]),
        ("app==a", ["a"]),
        ("app!=a", ["b", "none"]),
        ("app in (a,b)", ["a", "b"]),
        ("app notin (a)", ["b", "none"]),
        ("app", ["a", "b"]),
        ("!app", ["none"]),
        ("app,tier=x", ["b"]),
    ],
)
async def test_label_selectors_mean_what_they_mean_in_kubernetes(client, selector, expected):
    client.cluster.create(labelled("a", {"app": "a"}))
    client.cluster.create(labelled("b", {"app": "b", "tier": "x"}))
    client.cluster.create(config_map("none"))
    async with client.session.get(
        client.cluster.url + ALL_MAPS, params={"labelSelector": selector}
    ) as response:
        assert names((await response.json())["items"]) == expected


async def test_field_selectors_know_the_fields_of_a_kind_and_refuse_others(client):
    client.cluster.create(pod("a", nodeName="n") | {"status": {"phase": "Running"}})
    client.cluster.create(pod("b"))

    async def found(selector: str) -> list[str]:
        return names((await client.get(f"/api/v1/pods?fieldSelector={selector}"))["items"])

    assert await found("spec.nodeName%3Dn") == ["a"]
    assert await found("status.phase!%3DRunning") == ["b"]
    assert await found("metadata.name%3D%3Db,metadata.namespace%3Ddefault") == ["b"]
    status, body = await client.ask("GET", "/api/v1/pods?fieldSelector=spec.foo%3D1")
    assert (status, body["message"]) == (400, "field label not supported: spec.foo")
    status, body = await client.ask("GET", f"{ALL_MAPS}?fieldSelector=data.k%3D1")
    assert (status, body["message"].split(":")[0]) == (400, '"data.k" is not a known field selector')
    assert (await client.ask("GET", "/api/v1/pods?fieldSelector=spec.foo"))[0] == 400
    assert (await client.ask("GET", "/api/v1/pods?labelSelector=a+b"))[0] == 400


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersionMatch=Exact&resourceVersion=0", 422),
        ("resourceVersionMatch=Other&resourceVersion=5", 422),
        ("resourceVersionMatch=Exact&resourceVersion=5&continue=abc", 422),
        ("resourceVersion=5&continue=abc", 400),
        ("continue=abc", 400),
        ("resourceVersion=abc", 400),
        ("limit=abc", 400),
        ("sendInitialEvents=true", 422),
        ("watch=1&sendInitialEvents=true", 422),
        ("watch=1&resourceVersionMatch=NotOlderThan", 422),
        ("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", 422),
        ("watch=1&resourceVersion=abc", 500),
    ],
)
async def test_contradictory_options_are_refused_as_the_real_server_refuses_them(client, query, status):
    answered, body = await client.ask("GET", f"{ALL_MAPS}?{query}")
    assert (answered, body["kind"]) == (status, "Status")
    if status == 422:
        assert body["message"].startswith('ListOptions.meta.k8s.io "" is invalid: ')
        assert body["details"]["causes"]


@pytest.mark.parametrize("match", ["NotOlderThan", "Exact"])
async def test_a_version_of_the_future_is_a_504_that_says_too_large(client, match):
    query = f"limit=1&resourceVersion=99999&resourceVersionMatch={match}"
    status, body = await client.ask("GET", f"{ALL_MAPS}?{query}")
    now = client.cluster.revision
    assert (status, body["reason"]) == (504, "Timeout")
    assert body["message"] == f"Timeout: Too large resource version: 99999, current: {now}"
    assert body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert body["details"]["retryAfterSeconds"] == 1
    status, body = await client.ask("GET", f"/api/v1/events?{query}")
    assert (status, "retryAfterSeconds" in body["details"]) == (504, False)


async def test_a_version_that_comes_in_time_is_waited_for():
    async with running(fresh_wait_seconds=5.0) as client:
        wanted = client.cluster.revision + 2
        asking = asyncio.ensure_future(
            client.get(f"{ALL_MAPS}?resourceVersion={wanted}&resourceVersionMatch=NotOlderThan")
        )
        await client.get("/readyz")
        client.cluster.heartbeat(2)
        assert version_of(await asking) == wanted


# WATCH


async def test_a_watch_sends_each_change_as_one_compact_line_in_the_order_of_versions(client):
    async with client.watch(f"{ALL_MAPS}?watch=true&resourceVersion={client.cluster.revision}") as stream:
        client.cluster.create(config_map("a"))
        client.cluster.patch("configmaps", "default", "a", {"data": {"k": "v"}})
        client.cluster.delete("configmaps", "default", "a")
        raw = await stream.response.content.readline()
        lines = await stream.lines(2)
    assert raw.startswith(
        b'{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a",'
    )
    assert stream.response.headers["Transfer-Encoding"] == "chunked"
    assert kinds_of(lines) == [("MODIFIED", "a"), ("DELETED", "a")]
    assert lines[1]["object"]["data"] == {"k": "v"}
    assert version_of(lines[1]["object"]) == version_of(lines[0]["object"]) + 1 == client.cluster.revision


async def test_a_watch_at_an_older_version_replays_what_came_after_it(client):
    start = version_of(client.cluster.create(config_map("a")))
    client.cluster.create(config_map("b"))
    async with client.watch(f"{MAPS}?watch=1&resourceVersion={start}") as stream:
        client.cluster.create(config_map("c"))
        assert kinds_of(await stream.lines(2)) == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_namespaced_watch_sees_its_namespace_only(client):
    async with client.watch(f"{MAPS}?watch=1&resourceVersion={client.cluster.revision}") as stream:
        client.cluster.create({**config_map("x"), "metadata": {"name": "x", "namespace": "kube-system"}})
        client.cluster.create(config_map("a"))
        assert kinds_of([await stream.line()]) == [("ADDED", "a")]


async def test_a_version_that_left_the_ring_is_one_error_line_with_410_and_the_oldest_version():
    async with running(ring_capacity=2) as client:
        start = client.cluster.revision
        for name in "abc":
            client.cluster.create(config_map(name))
        async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
            error = await stream.line()
            assert await stream.rest() == b""
        oldest = start + 1
        assert error["type"] == "ERROR"
        assert (error["object"]["code"], error["object"]["reason"]) == (410, "Expired")
        assert error["object"]["message"] == f"too old resource version: {start} ({oldest})"
        async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={oldest}") as stream:
            assert kinds_of(await stream.lines(2)) == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_watch_at_a_version_of_the_future_is_silent_until_the_counter_passes_it(client):
    future = client.cluster.revision + 2
    async with client.watch(
        f"{ALL_MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={future}"
    ) as stream:
        client.cluster.create(config_map("lost"))
        client.cluster.bookmark()
        await stream.silent()
        client.cluster.create(config_map("lost-too"))
        client.cluster.create(config_map("seen"))
        assert kinds_of([await stream.line()]) == [("ADDED", "seen")]


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"])
async def test_a_watch_without_a_version_begins_with_everything_as_added(client, version):
    for name in "ab":
        client.cluster.create(config_map(name))
    async with client.watch(f"{ALL_MAPS}?watch=1{version}") as stream:
        assert sorted(kinds_of(await stream.lines(2))) == [("ADDED", "a"), ("ADDED", "b")]
        client.cluster.delete("configmaps", "default", "a")
        assert kinds_of([await stream.line()]) == [("DELETED", "a")]


async def test_a_watch_list_ends_its_snapshot_with_a_marked_bookmark(client):
    for number in range(20):
        client.cluster.create(config_map(f"m{number:02}"))
    async with client.watch(f"{ALL_MAPS}?{WATCH_LIST}") as stream:
        *added, bookmark = await stream.lines(21)
        client.cluster.create(config_map("live"))
        live = await stream.line()
    found = [name for verb, name in kinds_of(added) if verb == "ADDED"]
    assert sorted(found) == [f"m{number:02}" for number in range(20)]
    assert found != sorted(found)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert version_of(live["object"]) == version_of(bookmark["object"]) + 1


async def test_a_watch_list_at_a_version_of_the_future_is_an_error_line(client):
    async with client.watch(f"{ALL_MAPS}?{WATCH_LIST}&resourceVersion=99999") as stream:
        error = await stream.line()
    assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 504, "Timeout")


async def test_a_watch_that_wants_no_initial_events_begins_now(client):
    client.cluster.create(config_map("a"))
    query = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
    async with client.watch(f"{ALL_MAPS}?{query}") as stream:
        client.cluster.create(config_map("b"))
        assert kinds_of([await stream.line()]) == [("ADDED", "b")]


async def test_a_server_without_watch_lists_forbids_them_and_marks_no_bookmark():
    async with running(watch_list=False) as client:
        status, body = await client.ask("GET", f"{ALL_MAPS}?{WATCH_LIST}")
        assert (status, body["reason"]) == (422, "Invalid")
        assert "sendInitialEvents: Forbidden" in body["message"]
        client.cluster.create(config_map("a"))
        async with client.watch(f"{ALL_MAPS}?watch=1&allowWatchBookmarks=true") as stream:
            await stream.line()
            client.cluster.heartbeat()
            client.cluster.bookmark()
            assert "annotations" not in (await stream.line())["object"]["metadata"]


async def test_bookmarks_carry_a_version_and_go_to_those_who_asked(client):
    start = client.cluster.revision
    async with (
        client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}&allowWatchBookmarks=true") as asked,
        client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as not_asked,
    ):
        client.cluster.bookmark()  # not beyond the version that the watch began with: not sent
        client.cluster.heartbeat()
        client.cluster.bookmark()
        bookmark = await asked.line()
        client.cluster.create(config_map("a"))
        assert kinds_of([await not_asked.line()]) == [("ADDED", "a")]
    metadata = {"resourceVersion": str(start + 1)}
    assert bookmark == {
        "type": "BOOKMARK",
        "object": {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata},
    }


async def test_bookmarks_come_by_themselves():
    async with running(bookmark_seconds=0.02, heartbeat_seconds=0.01) as client:
        async with client.watch(
            f"{ALL_MAPS}?watch=1&resourceVersion=1004&allowWatchBookmarks=true"
        ) as stream:
            first, second = await stream.lines(2)
        assert first["type"] == second["type"] == "BOOKMARK"
        assert version_of(first["object"]) <= version_of(second["object"])


async def test_timeout_seconds_end_a_watch_cleanly(client):
    async with client.watch(
        f"{ALL_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={client.cluster.revision}"
    ) as stream:
        assert await stream.rest() == b""


async def test_entering_and_leaving_a_selection_are_added_and_deleted(client):
    client.cluster.create(labelled("a", {"x": "1"}))
    client.cluster.create(config_map("b"))
    path = f"{ALL_MAPS}?watch=1&labelSelector=x%3D1&resourceVersion={client.cluster.revision}"
    async with client.watch(path) as stream:
        client.cluster.patch("configmaps", "default", "b", {"metadata": {"labels": {"x": "1"}}})
        gone = client.cluster.patch("configmaps", "default", "a", {"metadata": {"labels": {"x": "2"}}})
        client.cluster.delete("configmaps", "default", "a")
        client.cluster.delete("configmaps", "default", "b")
        lines = await stream.lines(3)
    assert kinds_of(lines) == [("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")]
    assert lines[1]["object"]["metadata"]["labels"] == {"x": "1"}
    assert version_of(lines[1]["object"]) == version_of(gone)


async def test_events_have_no_bookmarks_but_the_one_of_a_watch_list(client):
    client.cluster.create(event("e"))
    async with client.watch(f"/api/v1/events?{WATCH_LIST}") as stream:
        added, end = await stream.lines(2)
        client.cluster.heartbeat()
        client.cluster.bookmark()
        client.cluster.create(event("f"))
        live = await stream.line()
    assert [added["type"], end["type"], live["type"]] == ["ADDED", "BOOKMARK", "ADDED"]


async def test_events_can_be_watched_from_any_version_that_is_not_compacted():
    async with running(ring_capacity=1) as client:
        start = client.cluster.revision
        for name in "abc":
            client.cluster.create(event(name))
        client.cluster.forget()
        async with client.watch(f"/api/v1/events?watch=1&resourceVersion={start}") as stream:
            assert kinds_of(await stream.lines(3)) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]
        client.cluster.compact()
        async with client.watch(f"/api/v1/events?watch=1&resourceVersion={start}") as stream:
            error = (await stream.line())["object"]
            assert await stream.rest() == b""
        assert error["message"] == "The resourceVersion for the provided watch is too old."
        assert (error["code"], error["reason"]) == (410, "Expired")


async def test_a_client_that_does_not_read_is_dropped_without_a_word():
    async with running(watcher_buffer=10) as client:
        data = {"k": "v" * 1_000_000}
        client.cluster.create(config_map("a", data=data))
        start = client.cluster.revision
        async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
            for number in range(200):
                if not client.cluster.watch_count:
                    break
                client.cluster.patch("configmaps", "default", "a", {"data": {"n": str(number)}})
                await asyncio.sleep(0)
            assert client.cluster.watch_count == 0
            received = (await stream.rest()).splitlines()
        versions = [version_of(json.loads(line)["object"]) for line in received]
        assert versions == list(range(start + 1, start + 1 + len(versions)))
        assert start + len(versions) < client.cluster.revision


async def test_thousands_of_changes_in_one_burst_reach_a_client_that_reads(client):
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={client.cluster.revision}") as stream:
        for number in range(3000):
            client.cluster.create(config_map(f"m{number}"))
        lines = await stream.lines(3000)
    assert [version_of(line["object"]) for line in lines] == list(
        range(client.cluster.revision - 2999, client.cluster.revision + 1)
    )


# Custom resources


async def test_a_definition_makes_its_resource_served_in_the_form_of_custom_objects(client):
    assert (await client.ask("GET", "/apis/x.io/v1/foos"))[0] == 404
    status, _ = await client.ask(
        "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()
    )
    assert status == 201
    made = client.cluster.get("customresourcedefinitions.apiextensions.k8s.io", "", "foos.x.io")
    assert {condition["type"] for condition in made["status"]["conditions"]} == {
        "NamesAccepted",
        "Established",
    }
    path = "/apis/x.io/v1/namespaces/default/foos"
    _, body = await client.ask("POST", path, foo("a", spec={"k": 1}))
    assert body["metadata"]["generation"] == 1
    listed = await client.get("/apis/x.io/v1/foos")
    assert list(listed) == ["apiVersion", "items", "kind", "metadata"]
    assert (listed["kind"], listed["items"][0]["kind"], listed["items"][0]["apiVersion"]) == (
        "FooList",
        "Foo",
        "x.io/v1",
    )
    without = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
    assert (await client.ask("PUT", path + "/a", body | {"metadata": without}))[0] == 422
    assert (await client.ask("POST", path, {"metadata": {"name": "b"}}))[0] == 400


async def test_a_deleted_definition_deletes_its_instances_closes_watches_and_is_no_longer_served(client):
    client.cluster.create(definition())
    client.cluster.create(foo("a"))
    path = f"/apis/x.io/v1/foos?watch=1&resourceVersion={client.cluster.revision}"
    async with client.watch(path) as stream:
        await client.ask("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/foos.x.io")
        assert kinds_of([await stream.line()]) == [("DELETED", "a")]
        assert await stream.rest() == b""
    assert await client.ask("GET", "/apis/x.io/v1/foos") == (404, "404 page not found\n")


async def test_a_changed_definition_closes_watches_and_forgets_their_history(client):
    client.cluster.create(definition())
    start = version_of(client.cluster.create(foo("a")))
    async with client.watch(f"/apis/x.io/v1/foos?watch=1&resourceVersion={start}") as stream:
        client.cluster.update(definition("v1", "v2"))
        assert await stream.rest() == b""
    async with client.watch(f"/apis/x.io/v1/foos?watch=1&resourceVersion={start}") as stream:
        assert (await stream.line())["object"]["code"] == 410
    assert (await client.get("/apis/x.io/v2/foos"))["items"][0]["apiVersion"] == "x.io/v2"


# What happens to API servers


async def test_a_kubeconfig_names_the_server_and_the_token(tmp_path):
    async with FakeCluster(token="secret") as cluster:
        config = yaml.safe_load(cluster.kubeconfig(tmp_path).read_text())
        assert config["clusters"][0]["cluster"]["server"] == cluster.url
        assert config["users"][0]["user"] == {"token": "secret"}


async def test_the_python_surface_reads_and_writes_what_http_shows(client):
    cluster = client.cluster
    made = cluster.create(pod("p", nodeName="n") | {"status": {"phase": "Running"}})
    assert (await client.get("/api/v1/namespaces/default/pods/p")) == made
    cluster.update(made | {"status": {"phase": "Failed"}})
    assert cluster.get("pods", "default", "p")["status"]["phase"] == "Failed"
    cluster.delete(made)
    with pytest.raises(ApiFailure) as raised:
        cluster.get("pods", "default", "p")
    assert raised.value.code == 404


async def test_forgetting_ends_watches_and_makes_older_versions_a_410(client):
    start = version_of(client.cluster.create(config_map("a")))
    client.cluster.create(config_map("b"))
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={client.cluster.revision}") as stream:
        client.cluster.forget()
        assert await stream.rest() == b""
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        error = (await stream.line())["object"]
    assert error["message"] == f"too old resource version: {start} ({client.cluster.revision})"
    exact = await client.get(f"{ALL_MAPS}?resourceVersion={start}&resourceVersionMatch=Exact")
    assert names(exact["items"]) == ["a"]


async def test_a_restart_keeps_port_and_history_but_costs_a_410(client):
    start = version_of(client.cluster.create(config_map("a")))
    url = client.cluster.url
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        await client.cluster.restart()
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
    assert client.cluster.url == url
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        assert (await stream.line())["object"]["code"] == 410
    exact = await client.get(f"{ALL_MAPS}?resourceVersion={start}&resourceVersionMatch=Exact")
    assert names(exact["items"]) == ["a"]


async def test_an_outage_refuses_connections_and_the_history_survives_it(client):
    start = client.cluster.revision
    await client.cluster.stop_listening()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.get("/readyz")
    client.cluster.create(config_map("a"))
    await client.cluster.listen()
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        assert kinds_of([await stream.line()]) == [("ADDED", "a")]


async def test_hanging_up_ends_watches_cleanly_and_they_can_be_resumed(client):
    start = client.cluster.revision
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        client.cluster.hang_up()
        assert await stream.rest() == b""
    assert client.cluster.watch_count == 0
    client.cluster.create(config_map("a"))
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        assert kinds_of([await stream.line()]) == [("ADDED", "a")]


async def test_a_cut_leaves_half_a_line_with_or_without_a_proper_end(client):
    path = f"{ALL_MAPS}?watch=1&resourceVersion={client.cluster.revision}"
    async with client.watch(path) as stream:
        client.cluster.cut_mid_line()
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
    async with client.watch(path) as stream:
        client.cluster.cut_mid_line(clean=True)
        left = await stream.rest()
    assert left.startswith(b'{"type":"MODIFIED"')
    assert not left.endswith(b"\n")


async def test_a_stalled_server_is_silent_until_it_is_not(client):
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={client.cluster.revision}") as stream:
        with client.cluster.stall():
            client.cluster.create(config_map("a"))
            await stream.silent()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get("/readyz")
        assert kinds_of([await stream.line()]) == [("ADDED", "a")]


async def test_ordered_failures_hit_the_next_matching_requests(client):
    client.cluster.fail(429, path_contains="configmaps", retry_after=7)
    client.cluster.fail(503, times=2)
    async with client.session.get(client.cluster.url + ALL_MAPS) as response:
        body = await response.json()
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert (body["reason"], body["details"]["retryAfterSeconds"]) == ("TooManyRequests", 7)
    assert [(await client.ask("GET", "/readyz"))[0] for _ in range(3)] == [503, 503, 200]


async def test_requests_are_recorded_with_their_query(client):
    await client.get(f"{ALL_MAPS}?limit=1")
    assert client.cluster.requests[-1] == ("GET", f"{ALL_MAPS}?limit=1")


async def test_a_rollback_brings_old_objects_and_an_old_counter_back(client):
    client.cluster.create(definition())
    kept = version_of(client.cluster.create(config_map("a", data={"k": "1"})))
    client.cluster.patch("configmaps", "default", "a", {"data": {"k": "2"}})
    client.cluster.delete("customresourcedefinitions.apiextensions.k8s.io", "", "foos.x.io")
    last = version_of(client.cluster.create(config_map("b")))
    client.cluster.rollback(kept)
    body = await client.get(ALL_MAPS)
    assert (version_of(body), [item["data"]["k"] for item in body["items"]]) == (kept, ["1"])
    assert (await client.ask("GET", "/apis/x.io/v1/foos"))[0] == 200
    assert (await client.ask("GET", f"{ALL_MAPS}?resourceVersion={last}&resourceVersionMatch=NotOlderThan"))[
        0
    ] == 504
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={last}") as stream:
        client.cluster.create(config_map("c"))
        await stream.silent()


async def test_the_heartbeat_lets_versions_grow_without_a_change():
    async with running(heartbeat_seconds=0.005) as client:
        before = int(await client.versions())
        query = f"resourceVersion={before + 3}&resourceVersionMatch=NotOlderThan"
        assert int(await client.versions(f"{ALL_MAPS}?{query}")) >= before + 3
