"""The only HTTP: pages, watches, credentials and every way in which an answer can be none."""

import json
import re
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from kexport.change import Resource
from kexport.errors import ApiError, ConnectionLostError, ProtocolError
from kexport.kube import Client, allowed
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.raw import serving

MAPS = "/api/v1/configmaps"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class Cut(bytes):
    """An answer after which the connection breaks; after others it stays open, silent."""


class Server:
    """A server that says what it is told to; `requests` are (number of the connection, head)."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.requests: list[tuple[int, str]] = []
        self.connections = 0

    async def talk(self, reader, writer):
        self.connections += 1
        number = self.connections
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.requests.append((number, head.decode()))
            answer = self._answers.pop(0)
            writer.write(answer)
            await writer.drain()
            if isinstance(answer, Cut):
                break


METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def answer(body, status="200 OK", *headers):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(text)}", *headers, "", ""])
    return head.encode() + text


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def page(*names, proceed="", version="7"):
    items = [{"metadata": {"name": name, "resourceVersion": "1"}} for name in names]
    metadata = {"resourceVersion": version, "continue": proceed}
    return answer({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items})


@asynccontextmanager
async def connected(**config):
    client = Client(ClusterConfig(list_requests_per_second=10_000, **config))
    await client.open()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def scripted(*answers):
    server = Server(*answers)
    async with serving(server.talk) as port, connected(url=f"http://127.0.0.1:{port}") as client:
        yield server, client


@pytest.fixture
async def cluster():
    async with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
async def client(cluster):
    async with connected(url=cluster.url) as client:
        yield client


def config_map(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def names(pages):
    return [json.loads(bytes(item["metadata"]))["name"] for page in pages for item in page.items or ()]


async def read(client, query=None, **options):
    async with client.watch(MAPS, query or {}, **options) as batches:
        return [line async for lines in batches for line in lines]


async def failure(client, path=MAPS):
    with pytest.raises(ApiError) as caught:
        await client.get(path)
    return caught.value


async def test_pages_go_on_until_there_is_no_continue(cluster, client):
    made = [f"map-{number:04d}" for number in range(1001)]
    for name in made:
        cluster.create(config_map(name))
    pages = [page async for page in client.pages(MAPS, {})]
    assert [len(page.items) for page in pages] == [500, 500, 1]
    assert names(pages) == made
    assert len({page.metadata.resourceVersion for page in pages}) == 1


async def test_an_empty_page_with_a_continue_is_not_the_end():
    async with scripted(page(proceed="go/on="), page("a")) as (server, client):
        assert names([page async for page in client.pages(MAPS, {})]) == ["a"]
    assert "continue=go/on%3D" in server.requests[1][1] or "continue=go%2Fon%3D" in server.requests[1][1]


async def test_a_continue_is_sent_without_the_version_that_it_carries():
    query = {"resourceVersion": "7", "resourceVersionMatch": "Exact", "labelSelector": "a=b"}
    async with scripted(page("a", proceed="x"), page("b")) as (server, client):
        assert names([page async for page in client.pages(MAPS, query)]) == ["a", "b"]
    first, second = (parse_qs(urlsplit(head.split()[1]).query) for _, head in server.requests)
    selected = {"labelSelector": ["a=b"], "limit": ["500"]}
    assert first == selected | {"resourceVersion": ["7"], "resourceVersionMatch": ["Exact"]}
    assert second == selected | {"continue": ["x"]}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"ite']
)
async def test_a_list_that_does_not_parse_to_its_end_is_none(body):
    async with scripted(answer(body)) as (_, client):
        with pytest.raises(ProtocolError, match=f"the list of {MAPS} is not one"):
            _ = [page async for page in client.pages(MAPS, {})]


async def test_lists_keep_their_connection():
    async with scripted(page("a", proceed="x"), page("b")) as (server, client):
        _ = [page async for page in client.pages(MAPS, {})]
        assert server.connections == 1


async def test_the_accepted_form_is_asked_for(cluster, client):
    cluster.create(config_map("a"))
    body = json.loads(await client.get(MAPS, accept=METADATA_LIST, limit="1"))
    assert body["kind"] == "PartialObjectMetadataList"


async def test_a_request_says_who_asks():
    async with scripted(answer({})) as (server, client):
        await client.get("/version")
    assert re.search(r"(?i)^user-agent: kexport/\d", server.requests[0][1], re.MULTILINE)


async def failure_of(said):
    async with scripted(said) as (_, client):
        return await failure(client)


async def test_a_status_says_what_is_wrong(cluster, client):
    error = await failure(client, "/api/v1/namespaces/default/configmaps/none")
    assert (error.status, error.reason, str(error)) == (404, "NotFound", 'configmaps "none" not found')
    assert error.retry_after is None


async def test_a_retry_after_header_is_kept():
    error = await failure_of(answer(b"busy", "429 Too Many Requests", "Retry-After: 7"))
    assert (error.status, error.retry_after, str(error)) == (429, 7, "busy")


async def test_the_seconds_in_a_status_count_more_than_the_header():
    body = {"kind": "Status", "code": 429, "message": "busy", "details": {"retryAfterSeconds": 9}}
    assert (await failure_of(answer(body, "429 Too Many Requests", "Retry-After: 7"))).retry_after == 9


async def test_a_retry_after_date_is_not_taken_for_seconds():
    date = "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT"
    assert (await failure_of(answer(b"", "503 Service Unavailable", date))).retry_after is None


async def test_an_error_page_is_shown_cut_short():
    error = await failure_of(answer(b"<html>" + b"x" * 10_000, "502 Bad Gateway"))
    assert error.status == 502
    assert str(error).startswith("<html>xxx")
    assert len(str(error)) <= 200


async def test_a_gateways_own_code_does_not_hide_the_http_status():
    # JSON, but no Status: gRPC gateways and cloud proxies number their errors in their own way.
    assert (await failure_of(answer({"code": 7, "message": "no"}, "403 Forbidden"))).status == 403


async def test_a_refused_connection_is_a_lost_one():
    async with FakeCluster() as gone, connected(url=gone.url) as client:
        await gone.stop_listening()
        with pytest.raises(ConnectionLostError, match=r"cannot reach the API server http://127\.0\.0\.1"):
            await client.get(MAPS)


@pytest.mark.parametrize(
    "broken",
    [
        Cut(b""),
        Cut(CHUNKED + chunk(b"{")),
        Cut(answer(b"x" * 100)[:-1]),
        Cut(CHUNKED + b"zz\r\n"),
        Cut(b"SSH-2.0\r\n"),
    ],
    ids=["nothing", "chunks cut", "length cut", "no chunk", "no http"],
)
async def test_an_answer_that_breaks_off_is_a_lost_connection(broken):
    async with scripted(broken, broken) as (_, client):
        with pytest.raises(ConnectionLostError):
            await client.get(MAPS)


async def test_lines_are_whole_however_the_server_cuts_them():
    text = b'{"type":"ADDED"}\n{"type":"MODIFIED"}\n'
    pieces = b"".join(chunk(bytes([byte])) for byte in text)
    async with scripted(CHUNKED + pieces + chunk(b"")) as (_, client):
        assert await read(client) == [b'{"type":"ADDED"}', b'{"type":"MODIFIED"}']


async def test_an_unfinished_last_line_is_dropped():
    async with scripted(CHUNKED + chunk(b"one\ntw") + chunk(b"")) as (_, client):
        assert await read(client) == [b"one"]


async def test_a_watch_that_breaks_is_a_lost_connection_after_its_whole_lines():
    async with scripted(Cut(CHUNKED + chunk(b"one\ntw"))) as (_, client), client.watch(MAPS, {}) as batches:
        assert await anext(batches) == [b"one"]
        with pytest.raises(ConnectionLostError, match="the watch broke"):
            await anext(batches)


async def test_silence_is_a_lost_connection():
    async with scripted(CHUNKED + chunk(b"one\n")) as (_, client):
        with pytest.raises(ConnectionLostError) as caught:
            await read(client, inactivity_seconds=0.05)
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_every_watch_opens_a_connection_of_its_own():
    watch = CHUNKED + chunk(b"one\n") + chunk(b"")
    async with scripted(watch, watch, watch) as (server, client):
        for _ in range(3):
            await read(client)
        assert [number for number, _ in server.requests] == [1, 2, 3]


async def test_a_watch_asks_for_its_end_at_a_random_time():
    end = CHUNKED + chunk(b"")
    async with scripted(*[end] * 8) as (server, client):
        for _ in range(8):
            await read(client, {"resourceVersion": "7"})
    queries = [parse_qs(urlsplit(head.split()[1]).query) for _, head in server.requests]
    seconds = {int(query["timeoutSeconds"][0]) for query in queries}
    assert all(query["watch"] == ["1"] and query["resourceVersion"] == ["7"] for query in queries)
    assert all(300 <= each <= 600 for each in seconds)
    assert len(seconds) > 1


async def test_a_refused_watch_is_an_api_error(cluster, client):
    cluster.deny("watch", "configmaps")
    with pytest.raises(ApiError) as caught:
        await read(client)
    assert caught.value.status == 403


async def test_an_endless_line_is_refused():
    endless = b"".join(chunk(b"x" * (1 << 20)) for _ in range(17))
    async with scripted(Cut(CHUNKED + endless)) as (_, client):
        with pytest.raises(ProtocolError, match="a line of more than"):
            await read(client)


async def test_a_review_says_what_is_allowed(cluster, client):
    maps = Resource(group="", version="v1", name="configmaps", kind="ConfigMap", namespaced=True)
    cluster.deny("list", "configmaps", namespace="shop")
    assert await allowed(client, "list", maps, None)
    assert await allowed(client, "list", maps, "web")
    assert not await allowed(client, "list", maps, "shop")
