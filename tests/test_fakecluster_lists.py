"""A list of FakeCluster reads what the real API server's would read."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakeclient import (
    ALL_MAPS,
    MAPS,
    Client,
    config_map,
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
    async with running(fresh_wait_seconds=30) as client:
        wanted = client.cluster.revision + 2
        asking = asyncio.ensure_future(
            client.get(f"{ALL_MAPS}?resourceVersion={wanted}&resourceVersionMatch=NotOlderThan")
        )
        await client.get("/readyz")
        client.cluster.heartbeat(2)
        assert version_of(await asking) == wanted


async def test_a_page_may_be_empty_and_yet_have_a_successor():
    async with running(scan_items=2) as client:
        for name in "abcde":
            client.cluster.create(labelled(name, {"x": "1" if name == "e" else "2"}))
        path, found, pages = f"{ALL_MAPS}?limit=2&labelSelector=x%3D1", [], 0
        page = await client.get(path)
        while page["metadata"].get("continue") and pages < 10:
            pages += 1
            found.append(names(page["items"]))
            assert "remainingItemCount" not in page["metadata"]
            page = await client.get(f"{path}&continue={page['metadata']['continue']}")
        assert [*found, names(page["items"])] == [[], [], ["e"]]
