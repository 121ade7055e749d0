"""What a test can do to FakeCluster looks from outside as it does on the real API server."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import yaml

from kexport.testing.cluster import FakeCluster
from kexport.testing.failure import ApiFailure
from tests.fakeclient import (
    ALL_MAPS,
    Client,
    config_map,
    definition,
    kinds_of,
    names,
    pod,
    running,
    version_of,
)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


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


async def test_in_an_outage_nobody_else_gets_the_port_and_after_the_block_whoever_asks():
    async with FakeCluster() as cluster:
        await cluster.stop_listening()
        with socket.socket() as other:
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", cluster.port))
            with pytest.raises(ConnectionRefusedError):
                other.connect(("127.0.0.1", cluster.port))
        port = cluster.port
        await cluster.listen()
        assert cluster.port == port
    with socket.create_server(("127.0.0.1", port)):
        pass


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
    async with running(heartbeat_seconds=0.005, fresh_wait_seconds=30) as client:
        before = int(await client.versions())
        query = f"resourceVersion={before + 3}&resourceVersionMatch=NotOlderThan"
        assert int(await client.versions(f"{ALL_MAPS}?{query}")) >= before + 3
