"""Where the real API server compresses: watch lists, a gzip member a flush, and big answers."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakeclient import ALL_MAPS, WATCH_LIST, Client, config_map, kinds_of, running

GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture
async def raw() -> AsyncIterator[Client]:
    """A client that unpacks nothing by itself."""
    async with running() as client, aiohttp.ClientSession(auto_decompress=False) as session:
        yield Client(client.cluster, session)


async def test_a_watch_list_is_a_row_of_gzip_members_one_for_each_flush(raw):
    raw.cluster.create(config_map("a"))
    async with raw.watch(f"{ALL_MAPS}?{WATCH_LIST}", **GZIP) as stream:
        assert stream.response.headers["Content-Encoding"] == "gzip"
        first = await _member(stream.response)
        raw.cluster.create(config_map("b"))
        second = await _member(stream.response)
    lines = [json.loads(line) for line in first.splitlines()]
    assert kinds_of(lines) == [("ADDED", "a"), ("BOOKMARK", "")]
    assert kinds_of([json.loads(second)]) == [("ADDED", "b")]


async def test_only_watch_lists_are_packed_and_only_for_those_who_take_it(raw):
    start = raw.cluster.revision
    async with raw.watch(f"{ALL_MAPS}?watch=1&resourceVersion={start}", **GZIP) as stream:
        assert "Content-Encoding" not in stream.response.headers
    identity = {"Accept-Encoding": "identity"}
    async with raw.watch(f"{ALL_MAPS}?{WATCH_LIST}", **identity) as stream:
        assert "Content-Encoding" not in stream.response.headers
        assert (await stream.line())["type"] == "BOOKMARK"
    raw.cluster.watch_compression = False
    async with raw.watch(f"{ALL_MAPS}?{WATCH_LIST}", **GZIP) as stream:
        assert (await stream.line())["type"] == "BOOKMARK"


async def test_a_client_that_unpacks_sees_the_same_lines():
    async with running() as client:
        client.cluster.create(config_map("a"))
        async with client.watch(f"{ALL_MAPS}?{WATCH_LIST}", **GZIP) as stream:
            assert kinds_of(await stream.lines(2)) == [("ADDED", "a"), ("BOOKMARK", "")]
            for name in "bcd":
                client.cluster.create(config_map(name))
                assert kinds_of([await stream.line()]) == [("ADDED", name)]


async def test_only_answers_above_128_kib_are_packed(raw):
    raw.cluster.create(config_map("big", data={"k": "v" * 200_000}))
    async with raw.session.get(raw.cluster.url + ALL_MAPS, headers=GZIP) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        packed = await response.read()
    assert [item["metadata"]["name"] for item in json.loads(gzip.decompress(packed))["items"]] == ["big"]
    async with raw.session.get(
        raw.cluster.url + ALL_MAPS, headers={"Accept-Encoding": "identity"}
    ) as response:
        assert json.loads(await response.read())["items"]
    async with raw.session.get(raw.cluster.url + "/api/v1/namespaces", headers=GZIP) as response:
        assert "Content-Encoding" not in response.headers
        assert json.loads(await response.read())["items"]


async def _member(response: aiohttp.ClientResponse) -> bytes:
    """Read exactly one whole gzip member, beyond which nothing has been sent yet."""
    unpacker = zlib.decompressobj(wbits=31)
    unpacked = b""
    while not unpacker.eof:
        chunk = await response.content.readany()
        assert chunk
        unpacked += unpacker.decompress(chunk)
    assert not unpacker.unused_data
    return unpacked
