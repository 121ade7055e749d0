"""An API server that means harm: memory stays bounded, the error says what it is, nothing is given away."""

from __future__ import annotations

import asyncio
import json
import resource
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kexport.errors import ApiError, ConnectionLostError, KexportError, ProtocolError
from kexport.kube import Client
from kexport.lines import (
    MAX_LINE_BYTES,
    MAX_RETRY_SECONDS,
    decode_line,
    decode_metadata,
)
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply, gzip_bomb, redirect
from kexport.testing.raw import serving
from tests.exporter import Exporter, Memory
from tests.hostile import (
    MAPS,
    MIB,
    TOKEN,
    Endless,
    after,
    change,
    connected,
    deep,
    listed,
    watched,
)
from tests.objects import config, eventually, seen


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster(token=TOKEN) as cluster:
        yield cluster


# -- too much ---------------------------------------------------------------------------------------------


async def test_scenario_29_an_endless_line_is_cut_off_at_the_limit(fake: FakeCluster, tmp_path: Path):
    endless = Endless(b"x" * MIB)
    fake.script(Reply(body=endless), verb="watch")
    async with connected(fake, tmp_path) as client:
        with pytest.raises(ProtocolError, match=f"a line of more than {MAX_LINE_BYTES} bytes"):
            await watched(client)
    assert endless.sent < MAX_LINE_BYTES + 64 * MIB  # the rest was in the sockets' buffers


async def test_scenario_29_after_an_endless_line_the_stream_goes_on_from_its_position(
    fake: FakeCluster, tmp_path: Path
):
    memory = await after(fake, tmp_path, Reply(body=Endless(b"x" * MIB)))
    assert seen(memory)[-1] == ("added", "later")
    assert not [event for event in memory.events if event.change == "gap"]


async def test_an_endless_list_is_cut_off_at_the_limit(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kexport.kube.MAX_BODY_BYTES", 8 * MIB)
    endless = Endless(b" " * MIB)
    fake.script(Reply(body=endless), verb="list")
    async with connected(fake, tmp_path) as client:
        with pytest.raises(ProtocolError, match=f"the answer to {MAPS} is larger than {8 * MIB} bytes"):
            await listed(client)
        assert await listed(client), "the next answer is read"
    assert endless.sent < 72 * MIB


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_a_gzip_bomb_is_unpacked_no_further_than_the_limit(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
):
    monkeypatch.setattr("kexport.kube.MAX_BODY_BYTES", MAX_LINE_BYTES)
    fake.script(gzip_bomb(1 << 30), verb=verb)
    async with connected(fake, tmp_path) as client:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match=r"more than|larger than"):
                await (listed(client) if verb == "list" else watched(client))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 5 * MAX_LINE_BYTES


async def test_an_error_of_a_hundred_megabytes_is_read_in_part(fake: FakeCluster, tmp_path: Path):
    endless = Endless(b"y" * MIB)
    fake.script(Reply(status=500, body=endless), path_contains=MAPS)
    async with connected(fake, tmp_path) as client:
        with pytest.raises(ApiError, match=r"^y+$") as caught:
            await listed(client)
    assert (caught.value.status, len(str(caught.value))) == (500, 200)
    assert endless.sent < 64 * MIB


@pytest.mark.parametrize("head", [b"X-A: " + b"a" * MIB, b"X-A: b\r\n" * 100_000], ids=["long", "many"])
async def test_a_flood_of_headers_is_a_lost_connection(head: bytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")

    async with raw(talk) as client:
        with pytest.raises(ConnectionLostError, match="cannot reach the API server"):
            await client.get("/version")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 128 << 10, "kilobytes"


@asynccontextmanager
async def raw(talk: Any) -> AsyncIterator[Client]:
    async with serving(talk) as port:
        client = Client(ClusterConfig(url=f"http://127.0.0.1:{port}", list_requests_per_second=10_000))
        await client.open()
        try:
            yield client
        finally:
            await client.close()


# -- too slow ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("watch", [True, False])
async def test_a_head_that_comes_byte_by_byte_is_not_awaited_for_ever(
    monkeypatch: pytest.MonkeyPatch, watch: bool
):
    monkeypatch.setattr("kexport.kube.ANSWER_SECONDS", 0.3)
    async with raw(dripping(b"HTTP/1.1 200 OK\r\nX-A: ")) as client:
        with pytest.raises(ConnectionLostError, match="cannot reach the API server"):
            await (watched(client) if watch else client.get("/version"))


async def test_a_body_that_comes_byte_by_byte_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kexport.kube.BODY_SECONDS", 0.3)
    async with raw(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")) as client:
        with pytest.raises(ConnectionLostError, match="broke off: TimeoutError"):
            await client.get("/version")


def dripping(first: bytes) -> Any:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(first)
        for _ in range(1000):
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    return talk


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1000000000", MAX_RETRY_SECONDS),
        ("9" * 400, MAX_RETRY_SECONDS),
        ("-5", None),
        ("soon", None),
        ("²", None),
    ],
)
async def test_an_absurd_retry_after_is_capped_or_ignored(
    fake: FakeCluster, tmp_path: Path, header: str, seconds: float | None
):
    fake.script(Reply(status=429, headers={"Retry-After": header}), verb="list")
    async with connected(fake, tmp_path) as client:
        with pytest.raises(ApiError) as caught:
            await listed(client)
    assert caught.value.retry_after == seconds


# -- elsewhere --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_a_redirect_is_not_followed_and_takes_no_token_along(
    fake: FakeCluster, tmp_path: Path, status: int, verb: str
):
    async with FakeCluster() as elsewhere:
        fake.script(redirect(elsewhere.url + MAPS, status), verb=verb)
        async with connected(fake, tmp_path) as client:
            with pytest.raises(
                ApiError, match=r"elsewhere with HTTP 30\d: http://127.0.0.1; that is not followed"
            ):
                await (listed(client) if verb == "list" else watched(client))
        assert not elsewhere.requests


@pytest.mark.parametrize("place", ["", "http://[", "//other", "file:///etc/passwd"])
async def test_a_redirect_to_nonsense_is_an_api_error(fake: FakeCluster, tmp_path: Path, place: str):
    fake.script(redirect(place), verb="list")
    async with connected(fake, tmp_path) as client:
        with pytest.raises(ApiError, match="elsewhere"):
            await listed(client)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_token_that_the_server_repeats_is_in_no_error(fake: FakeCluster, tmp_path: Path, status: int):
    failure = {"kind": "Status", "code": 500, "message": f"no such token: {TOKEN}", "reason": "Weird"}
    line = json.dumps({"type": "ERROR", "object": failure}) if status == 200 else json.dumps(failure)
    fake.script(Reply(status=status, body=line.encode() + b"\n"), verb="watch")
    async with connected(fake, tmp_path) as client:
        try:
            said = str(await watched(client))
        except ApiError as error:
            said = str(error)
    assert "no such token: ***" in said
    assert TOKEN not in said


# -- something else than Kubernetes -----------------------------------------------------------------------

LOGIN = Reply(body=b"<html><form>please log in</form></html>\n", headers={"Content-Type": "text/html"})


async def test_a_login_page_is_no_list(fake: FakeCluster, tmp_path: Path):
    fake.script(LOGIN, verb="list")
    async with connected(fake, tmp_path) as client:
        with pytest.raises(ProtocolError, match=f"the list of {MAPS} is not one"):
            await listed(client)


NO_CHANGES = {
    "no text": b"\x00\xff\xfe",
    "no UTF-8 in a value": change("ADDED", "x", "9", b'{"a":"\xff"}'),
    "no UTF-8 in a name": change("ADDED", "x", "9", b'{"\xff":1}'),
    "NUL": change("ADDED", "x", "9", b'{"a":"\x00"}'),
    "half a character": change("ADDED", "x", "9", b'{"a":"\\ud800"}'),
    "endless version": change("ADDED", "x", "9" * 10_000),
    "endless name": change("ADDED", "x" * 10_000, "9"),
    "no version": change("ADDED", "x", ""),
    "unknown type": change("EVICTED", "x", "9"),
    "only brackets": b"[" * 100_000,
    "never closed": change("ADDED", "x", "9", b'{"a":' * 100_000),
}


@pytest.mark.parametrize("line", NO_CHANGES.values(), ids=NO_CHANGES)
def test_scenario_32_what_is_no_change_is_a_protocol_error(line: bytes):
    with pytest.raises(ProtocolError) as caught:
        decode_metadata(decode_line(line).object)
    assert len(str(caught.value)) < 1200


def test_an_error_line_that_is_nested_deeply_is_one_of_our_errors():
    with pytest.raises(KexportError):
        decode_line(b'{"type":"ERROR","object":%b}' % deep(5000))


async def test_scenario_30_what_is_no_change_moves_nothing_and_the_next_watch_goes_on(
    fake: FakeCluster, tmp_path: Path
):
    memory = await after(fake, tmp_path, LOGIN, Reply(body=change("ADDED", "x", "9", b'{"a":"\xff"}')))
    assert [each for each in seen(memory) if each[1]] == [("added", "later")]


async def test_scenario_30_a_broken_line_of_a_secret_is_not_quoted(fake: FakeCluster, tmp_path: Path):
    fake.token = None
    broken = b'{"type":"ADDED","object":{"data":{"password":"aHVudGVyMg=="},"metadata":nothing}}\n'
    text = config(fake, tmp_path, "secrets")
    async with Exporter(text, Memory()) as exporter:
        await exporter.synced()
    fake.script(Reply(body=broken, then="hang"), verb="watch", path_contains="/secrets")
    async with Exporter(text, Memory()) as exporter:
        streams = exporter.engine.stats.streams
        await eventually(lambda: "secrets/*" in streams and bool(streams["secrets/*"].error))
        assert "a watch line that is not one" in streams["secrets/*"].error
        assert "aHVudGVyMg" not in streams["secrets/*"].error
