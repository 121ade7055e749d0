"""Made-up answers come for the requests they were ordered for, as often, and exactly as they were ordered."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import aiohttp
import pytest

from kexport.testing.faults import Delay, Hang, Refusal, Reply, gzip_bomb, redirect
from tests.fakeclient import ALL_MAPS, MAPS, Client, config_map, kinds_of, running


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(fresh_wait_seconds=0.05) as client:
        yield client


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_a_refusal_hits_one_verb_on_one_path_so_many_times(client, status):
    client.cluster.fail(status, verb="list", path_contains="configmaps", times=2, retry_after=3)
    assert (await client.ask("GET", "/api/v1/pods"))[0] == 200
    assert (await client.ask("POST", MAPS, config_map("a")))[0] == 201
    for _ in range(2):
        async with client.session.get(client.cluster.url + ALL_MAPS) as response:
            body = await response.json()
            assert (response.status, response.headers["Retry-After"]) == (status, "3")
            assert (body["kind"], body["code"], bool(body["reason"])) == ("Status", status, True)
    assert (await client.ask("GET", ALL_MAPS))[0] == 200


async def test_orders_are_played_in_line(client):
    for status in (401, 403, 429, 503):
        client.cluster.script(Refusal(status=status), verb="get", path_contains="/version")
    answers = [(await client.ask("GET", "/version"))[0] for _ in range(5)]
    assert answers == [401, 403, 429, 503, 200]


async def test_a_watch_can_be_refused_alone_and_with_a_line_in_its_stream(client):
    start = client.cluster.revision
    client.cluster.fail(500, verb="watch", in_stream=True)
    assert (await client.ask("GET", ALL_MAPS))[0] == 200
    async with client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as stream:
        error = await stream.line()
        assert await stream.rest() == b""
    assert (error["type"], error["object"]["code"]) == ("ERROR", 500)


async def test_lines_of_a_watch_can_be_anything(client):
    lines = b'{"type":"WHAT","object":{}}\n{"type":"ADDED","object":{"kind":"Table"}}\n{broken\n'
    client.cluster.script(Reply(body=lines), verb="watch")
    async with client.watch(f"{ALL_MAPS}?watch=1") as stream:
        assert await stream.rest() == lines


async def test_a_content_type_can_be_wrong_and_a_redirect_names_elsewhere(client):
    page = b"<html>sign in</html>"
    client.cluster.script(Reply(body=page, headers={"Content-Type": "text/html"}))
    assert await client.ask("GET", ALL_MAPS) == (200, page.decode())
    client.cluster.script(redirect("http://127.0.0.1:9/api"))
    async with client.session.get(client.cluster.url + ALL_MAPS, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "http://127.0.0.1:9/api")


async def test_a_body_can_be_shorter_than_it_promises(client):
    client.cluster.script(Reply(body=b'{"items":[', promised_bytes=1000))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.ask("GET", ALL_MAPS)
    assert (await client.ask("GET", ALL_MAPS))[0] == 200


async def test_a_body_can_be_longer_than_it_promises(client):
    client.cluster.script(Reply(body=b"{}surplus", promised_bytes=2))
    port = client.cluster.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {ALL_MAPS} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    async with asyncio.timeout(20):
        raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"Content-Length: 2\r\n" in head + b"\r\n"
    assert body == b"{}surplus"


async def test_a_line_can_go_on_for_ever_at_the_pace_of_its_reader(client):
    client.cluster.script(Reply(body=itertools.repeat(b"x" * 65536)), verb="watch")
    async with client.watch(f"{ALL_MAPS}?watch=1") as stream:
        read = 0
        async with asyncio.timeout(20):
            while read < 8 << 20:
                chunk = await stream.response.content.readany()
                assert chunk
                assert b"\n" not in chunk
                read += len(chunk)


async def test_a_gzip_bomb_is_small_on_the_wire_and_huge_unpacked():
    async with (
        running() as client,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        client.cluster.script(gzip_bomb(64 << 20))
        async with session.get(client.cluster.url + ALL_MAPS) as response:
            packed = await response.read()
            assert response.headers["Content-Encoding"] == "gzip"
    assert packed.startswith(b"\x1f\x8b")
    assert len(packed) < (64 << 20) // 900


async def test_a_request_that_hangs_gets_no_answer_and_others_go_on(client):
    client.cluster.script(Hang(), verb="list", path_contains="configmaps")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.ask("GET", ALL_MAPS)
    assert (await client.ask("GET", ALL_MAPS))[0] == 200


async def test_an_answer_can_begin_and_then_hang_or_be_cut(client):
    client.cluster.script(Reply(body=b'{"items":[', then="hang"))
    async with client.session.get(client.cluster.url + ALL_MAPS) as response:
        assert await response.content.readany() == b'{"items":['
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await response.content.readany()
    client.cluster.script(Reply(body=b'{"items":[', then="cut"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.ask("GET", ALL_MAPS)


async def test_a_slow_answer_is_the_right_one(client):
    client.cluster.create(config_map("a"))
    client.cluster.script(Delay(seconds=0.2), verb="list")
    clock = asyncio.get_running_loop().time
    started = clock()
    assert len((await client.get(ALL_MAPS))["items"]) == 1
    assert clock() - started >= 0.2


async def test_one_watch_of_two_can_be_half_open(client):
    start = client.cluster.revision
    async with (
        client.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}") as dead,
        client.watch(f"{MAPS}?watch=1&resourceVersion={start}") as alive,
    ):
        with client.cluster.stall("/api/v1/configmaps"):
            client.cluster.create(config_map("a"))
            assert kinds_of([await alive.line()]) == [("ADDED", "a")]
            await dead.silent()
        assert kinds_of([await dead.line()]) == [("ADDED", "a")]
