"""What FakeCluster stores and refuses is what the real API server stores and refuses."""

from collections.abc import AsyncIterator

import pytest

from tests.fakeclient import (
    ALL_MAPS,
    MAPS,
    MERGE,
    Client,
    config_map,
    kinds_of,
    labelled,
    names,
    pod,
    running,
    version_of,
)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


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
