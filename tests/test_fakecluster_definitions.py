"""Definitions of custom resources come, change and go on FakeCluster as on the real API server."""

from collections.abc import AsyncIterator

import pytest

from tests.fakeclient import Client, definition, foo, kinds_of, names, running, version_of


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


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


async def test_a_definition_ends_in_the_steps_that_its_watchers_saw_on_the_real_server(client):
    client.cluster.create(definition())
    client.cluster.create(foo("a"))
    start = client.cluster.revision
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    async with client.watch(f"{path}?watch=1&resourceVersion={start}") as stream:
        await client.ask("DELETE", f"{path}/foos.x.io")
        marked, announced, gone = await stream.lines(3)
    assert kinds_of([marked, announced, gone]) == [
        ("MODIFIED", "foos.x.io"),
        ("MODIFIED", "foos.x.io"),
        ("DELETED", "foos.x.io"),
    ]
    assert marked["object"]["metadata"]["deletionTimestamp"]
    reasons = [each["object"]["status"]["conditions"][-1]["reason"] for each in (marked, announced)]
    assert reasons == ["InstanceDeletionPending", "InstanceDeletionInProgress"]
    assert version_of(gone["object"]) == version_of(announced["object"]) + 2  # the instance went between


async def test_a_definition_made_again_knows_nothing_from_before_but_its_history_can_be_read(client):
    first = client.cluster.create(definition())
    client.cluster.create(foo("a"))
    start = client.cluster.revision
    client.cluster.delete("customresourcedefinitions.apiextensions.k8s.io", "", "foos.x.io")
    second = client.cluster.create(definition())
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert (await client.get("/apis/x.io/v1/foos"))["items"] == []
    async with client.watch(f"/apis/x.io/v1/foos?watch=1&resourceVersion={start}") as stream:
        error = (await stream.line())["object"]
        assert await stream.rest() == b""
    assert (error["code"], error["reason"]) == (410, "Expired")
    exact = await client.get(f"/apis/x.io/v1/foos?resourceVersion={start}&resourceVersionMatch=Exact")
    assert names(exact["items"]) == ["a"]


async def test_a_version_no_longer_served_is_404_and_another_becomes_the_preferred_one(client):
    client.cluster.create(definition("v1", "v1beta1"))
    start = version_of(client.cluster.create(foo("a")))
    assert (await client.get("/apis/x.io"))["preferredVersion"]["version"] == "v1"
    changed = definition("v2", "v1beta1", "v1alpha1", "v10")
    async with (
        client.watch(f"/apis/x.io/v1/foos?watch=1&resourceVersion={start}") as withdrawn,
        client.watch(f"/apis/x.io/v1beta1/foos?watch=1&resourceVersion={start}") as kept,
    ):
        client.cluster.update(changed)
        assert await withdrawn.rest() == b""
        assert await kept.rest() == b""
    assert await client.ask("GET", "/apis/x.io/v1/foos") == (404, "404 page not found\n")
    group = await client.get("/apis/x.io")
    assert [version["version"] for version in group["versions"]] == ["v10", "v2", "v1beta1", "v1alpha1"]
    assert group["preferredVersion"]["version"] == "v10"
    (item,) = (await client.get("/apis/x.io/v2/foos"))["items"]
    assert (item["apiVersion"], version_of(item)) == ("x.io/v2", start)


async def test_a_label_on_a_definition_leaves_its_watches_open(client):
    client.cluster.create(definition())
    async with client.watch(
        f"/apis/x.io/v1/foos?watch=1&resourceVersion={client.cluster.revision}"
    ) as stream:
        client.cluster.patch(
            "customresourcedefinitions.apiextensions.k8s.io",
            "",
            "foos.x.io",
            {"metadata": {"labels": {"a": "b"}}},
        )
        client.cluster.create(foo("a"))
        assert kinds_of([await stream.line()]) == [("ADDED", "a")]
