"""A listing is whole or it is none; what the index has already is not staged."""

import gc
import json
import os
from contextlib import asynccontextmanager

import pytest

from kexport.change import Known, Resource, Stream
from kexport.errors import ApiError, ConnectionLostError, KexportError, ProtocolError
from kexport.kube import Client
from kexport.lines import decode_line
from kexport.shape import Shaper
from kexport.snapshot import Snapshot, take
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.raw import serving

MAPS = Resource(group="", version="v1", name="configmaps", kind="ConfigMap", namespaced=True, verbs=("list",))
STREAM = Stream(resource=MAPS)
SHAPER = Shaper("configmaps", b"key")


def config_map(name, version="1", *, uid="", **more):
    metadata = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "resourceVersion": version}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, **more}


def members(obj):
    return decode_line(json.dumps({"type": "ADDED", "object": obj}).encode()).object


def line(kind, obj):
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def end(version="9"):
    annotations = {"k8s.io/initial-events-end": "true"}
    return line("BOOKMARK", {"metadata": {"resourceVersion": version, "annotations": annotations}})


def answer(body, status="200 OK"):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text


def page(*objects, proceed="", version="9"):
    metadata = {"resourceVersion": version, "continue": proceed}
    return {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": objects}


@asynccontextmanager
async def connected(url, *, watch_list=True):
    client = Client(ClusterConfig(url=url, list_requests_per_second=10_000))
    client.watch_list = watch_list
    await client.open()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def scripted(*answers, watch_list=False):
    """A client of a server that gives these answers, one a connection, and the paths it was asked for."""
    left, paths = list(answers), []

    async def talk(reader, writer):
        paths.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
        writer.write(left.pop(0))

    async with serving(talk) as port, connected(f"http://127.0.0.1:{port}", watch_list=watch_list) as client:
        yield paths, client


@pytest.fixture(params=[True, False], ids=["by watch", "by pages"])
async def cluster(request):
    async with FakeCluster(watch_list=request.param) as cluster:
        yield cluster


@pytest.fixture
def snapshot(tmp_path):
    with Snapshot(STREAM, SHAPER, {}, directory=tmp_path) as snapshot:
        yield snapshot


def staged(snapshot):
    return [each for some in snapshot.differences() for each in some]


def keys(snapshot):
    return sorted(each.metadata.key for each in staged(snapshot))


def known(*objects):
    found = [each["metadata"] for each in objects]
    return {f"default/{each['name']}": Known(each["uid"], each["resourceVersion"]) for each in found}


def maps(cluster, *names):
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    return [cluster.create(kind | {"metadata": {"name": name}, "data": {"a": name}}) for name in names]


async def read(cluster, snapshot, *, at=""):
    async with connected(cluster.url) as client:
        await take(client, snapshot, at=at)


async def by_pages(snapshot, *answers):
    async with scripted(*answers) as (paths, client):
        await take(client, snapshot)
        return paths


async def test_what_is_staged_is_what_is_there(cluster, snapshot):
    maps(cluster, *(f"map-{number}" for number in range(600)))
    await read(cluster, snapshot)
    there = {each["metadata"]["name"]: each for each in cluster.list("configmaps")}
    for each in there.values():
        each["metadata"].pop("managedFields", None)
    assert {each.metadata.name: json.loads(each.object) for each in staged(snapshot)} == there
    assert (snapshot.version, snapshot.objects) == (str(cluster.revision), 600)


async def test_listed_objects_say_what_they_are_as_watched_ones_do(cluster, snapshot):
    maps(cluster, "a")
    await read(cluster, snapshot)
    (found,) = staged(snapshot)
    assert found.object.startswith(b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"')


async def test_unchanged_objects_are_counted_but_not_staged(cluster):
    same, changed, gone = maps(cluster, "same", "changed", "gone")
    cluster.patch("configmaps", "default", "changed", {"data": {"a": "new"}})
    cluster.delete("configmaps", "default", "gone")
    before = known(same, changed, gone)
    with Snapshot(STREAM, SHAPER, before) as snapshot:
        await read(cluster, snapshot)
        (found,) = staged(snapshot)
        assert (found.metadata.name, found.before) == ("changed", before["default/changed"])
        assert snapshot.objects == 2
        assert snapshot.missing == known(gone)


async def test_a_past_version_is_listed_as_it_was(cluster, snapshot):
    maps(cluster, "a")
    then = str(cluster.revision)
    maps(cluster, "b")
    await read(cluster, snapshot, at=then)
    assert (keys(snapshot), snapshot.version) == (["default/a"], then)


async def test_a_version_that_is_forgotten_is_an_expiry_and_no_other_list(cluster, snapshot):
    then = str(cluster.revision)
    maps(cluster, "a")
    cluster.compact()
    with pytest.raises(ApiError) as caught:
        await read(cluster, snapshot, at=then)
    assert caught.value.expired


async def test_more_than_fits_into_memory_comes_back_from_disk(snapshot):
    objects = [config_map(f"map-{number}", noise=os.urandom(400_000).hex()) for number in range(15)]
    for each in objects:
        snapshot.add(members(each))
    assert [json.loads(each.object) for each in staged(snapshot)] == objects


def test_beginning_anew_closes_what_was_staged(tmp_path):
    # A staging file on disk that is merely forgotten gives a ResourceWarning, and those are errors here.
    with Snapshot(STREAM, SHAPER, {}, directory=tmp_path) as snapshot:
        for number in range(15):
            snapshot.add(members(config_map(f"map-{number}", noise=os.urandom(400_000).hex())))
        snapshot.restart()
        gc.collect()
        assert staged(snapshot) == []


async def by_watch(snapshot, *lines, answers=()):
    async with scripted(answer(b"".join(lines)), *map(answer, answers), watch_list=True) as (paths, client):
        await take(client, snapshot)
        return paths, client.watch_list


async def test_the_end_of_the_initial_events_gives_the_version(snapshot):
    lines = [
        line("ADDED", config_map("a")),
        line("BOOKMARK", {"metadata": {"resourceVersion": "5"}}),
        end("7"),
    ]
    paths, _ = await by_watch(snapshot, *lines)
    assert (keys(snapshot), snapshot.version) == (["default/a"], "7")
    assert "sendInitialEvents=true" in paths[0]


OLD, NEWER, REMADE = config_map("a", "1"), config_map("a", "3"), config_map("a", "3", uid="new")
DURING = {
    "changed": ([("ADDED", OLD), ("MODIFIED", NEWER)], [NEWER]),
    "deleted": ([("ADDED", OLD), ("DELETED", NEWER)], []),
    "made again": ([("ADDED", OLD), ("DELETED", OLD), ("ADDED", REMADE)], [REMADE]),
}


@pytest.mark.parametrize(("lines", "left"), DURING.values(), ids=DURING)
async def test_what_happens_during_the_initial_events_counts(lines, left):
    with Snapshot(STREAM, SHAPER, known(OLD)) as snapshot:
        await by_watch(snapshot, *(line(*each) for each in lines), end())
        assert [json.loads(each.object) for each in staged(snapshot)] == left
        assert all(each.before == Known("uid-a", "1") for each in staged(snapshot))
        assert snapshot.missing == ({} if left else known(OLD))


@pytest.mark.parametrize(("lines", "left"), DURING.values(), ids=DURING)
async def test_objects_are_counted_as_they_are_in_the_end(snapshot, lines, left):
    await by_watch(snapshot, *(line(*each) for each in lines), end())
    assert snapshot.objects == len(left)


async def test_a_server_without_watch_list_is_listed_and_remembered(snapshot):
    async with FakeCluster(watch_list=False) as cluster, connected(cluster.url) as client:
        maps(cluster, "a")
        await take(client, snapshot)
        assert keys(snapshot) == ["default/a"]
        assert not client.watch_list
        snapshot.restart()
        await take(client, snapshot)
        assert sum("sendInitialEvents" in request.path for request in cluster.requests) == 1


async def test_a_stream_that_ends_too_early_is_listed_instead_and_leaves_nothing(snapshot):
    listed = page(config_map("b"))
    _, believed = await by_watch(snapshot, line("ADDED", config_map("a")), answers=[listed])
    assert (keys(snapshot), snapshot.objects, snapshot.version) == (["default/b"], 1, "9")
    assert believed


@pytest.mark.parametrize("status", [403, 429, 500, 504])
async def test_other_refusals_are_errors_and_nothing_is_listed_instead(cluster, snapshot, status):
    cluster.fail(status)
    with pytest.raises(ApiError) as caught:
        await read(cluster, snapshot)
    assert caught.value.status == status
    assert len(cluster.requests) == 1


BAD = [b'{"type":"ADDED"\n', b'{"type":"ERROR","object":{"code":500}}\n', line("ADDED", {"kind": "Table"})]


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_line_before_the_end_fails_the_listing(snapshot, bad):
    with pytest.raises(KexportError):
        await by_watch(snapshot, line("ADDED", config_map("a")), bad, end())
    assert snapshot.version == ""


async def test_a_continue_that_expired_makes_one_list_in_one_piece(snapshot):
    first, whole = page(config_map("a"), proceed="x"), page(config_map("b"), config_map("c"), version="12")
    paths = await by_pages(
        snapshot, answer(first), answer({"code": 410, "reason": "Expired"}, "410 Gone"), answer(whole)
    )
    assert (keys(snapshot), snapshot.version) == (["default/b", "default/c"], "12")
    assert paths[2] == "/api/v1/configmaps"


@pytest.mark.parametrize(
    "broken",
    [answer(page(config_map("b")))[:-9], answer(b'{"kind":"ConfigMapList","apiVersion":"v1","items":['), b""],
    ids=["cut", "no json", "nothing"],
)
async def test_a_list_cut_midway_is_an_error_and_no_short_list(snapshot, broken):
    with pytest.raises((ConnectionLostError, ProtocolError)):
        await by_pages(snapshot, answer(page(config_map("a"), proceed="x")), broken, broken)


@pytest.mark.parametrize("versions", [("", ""), ("9", ""), ("9", "10")])
async def test_pages_without_one_version_are_a_protocol_error(snapshot, versions):
    one, two = page(config_map("a"), proceed="x", version=versions[0]), page(version=versions[1])
    with pytest.raises(ProtocolError, match="no version that one could go on from"):
        await by_pages(snapshot, answer(one), answer(two))


async def test_selectors_are_sent_with_every_request():
    stream = Stream(resource=MAPS, label_selector="team=shop", namespace="web")
    with Snapshot(stream, SHAPER, {}) as snapshot:
        paths = await by_pages(snapshot, answer(page(proceed="x")), answer(page()))
    assert all(path.startswith("/api/v1/namespaces/web/configmaps?") for path in paths)
    assert all("labelSelector=team%3Dshop" in path for path in paths)


async def test_an_indented_list_gives_objects_of_one_line(snapshot):
    # Some aggregated API servers indent; a newline within an event would tear the journal's lines apart.
    indented = json.dumps(page(config_map("a", data={"b": "c"})), indent=2)
    await by_pages(snapshot, answer(indented.encode()))
    assert b"\n" not in staged(snapshot)[0].object
