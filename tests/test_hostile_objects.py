"""Objects that somebody made to do harm: none stops the others, and none gets out of its line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kexport.errors import ApiError
from kexport.event import Event
from kexport.lines import (
    LEFT_OUT,
    MAX_DEPTH,
)
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply
from tests.exporter import Memory
from tests.hostile import (
    MAPS,
    TOKEN,
    after,
    change,
    connected,
    deep,
    listed,
)


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster(token=TOKEN) as cluster:
        yield cluster


def event_of(memory: Memory, name: str) -> Event:
    return next(event for event in memory.events if event.attributes.objname == name)


LEVELS = (400, MAX_DEPTH + 1, 900, *range(940, 1000, 4), 10_000)


async def test_an_object_nested_too_deeply_holds_up_no_other(fake: FakeCluster, tmp_path: Path):
    # Around a thousand levels it depends on the caller's own depth whether a parser gets through.
    version = str(fake.revision)
    body = b"".join(change("ADDED", f"deep-{levels}", version, deep(levels)) for levels in LEVELS)
    memory = await after(fake, tmp_path, Reply(body=body))
    for levels in LEVELS:
        event = event_of(memory, f"deep-{levels}")
        whole = levels < MAX_DEPTH
        assert (LEFT_OUT in event.line) is not whole
        found, depth = event.data["object"]["data"], 0
        while isinstance(found, dict):
            found, depth = found["a"], depth + 1
        assert found == (1 if whole else LEFT_OUT.decode().strip('"'))
        assert depth == (levels if whole else MAX_DEPTH - 1)


async def test_an_object_nested_too_deeply_is_the_same_in_a_list(fake: FakeCluster, tmp_path: Path):
    item = json.loads(change("ADDED", "deep", "5"))["object"]
    head = json.dumps(item)[:-1].replace('"data": {}', '"data": ').removesuffix("}").encode()
    page = (
        b'{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[%b%b},%b]}'
        % (
            head,
            deep(5000),
            json.dumps(item | {"metadata": {"name": "other", "resourceVersion": "6"}}).encode(),
        )
    )
    fake.script(Reply(body=page), verb="list")
    async with connected(fake, tmp_path) as client:
        (found,) = await listed(client)
    assert bytes(found.items[0]["data"]).count(b"{") == MAX_DEPTH - 1
    assert LEFT_OUT in bytes(found.items[0]["data"])
    assert len(found.items) == 2


ODD_NAMES = [
    "a\nb",
    "a\x1b[2J",
    "a\u202eb",
    '"',
    "\\",
    "../../etc",
    "a\u2028b",
    "$(id)",
    "\ufeff",
    "💥",
    "a'b",
]


async def test_odd_names_are_kept_and_stay_within_their_lines(fake: FakeCluster, tmp_path: Path):
    version = str(fake.revision)
    body = b"".join(change("ADDED", name, version) for name in ODD_NAMES)
    memory = await after(fake, tmp_path, Reply(body=body))
    for name in ODD_NAMES:
        event = event_of(memory, name)
        assert b"\n" not in event.line
        assert event.data["object"]["metadata"]["name"] == name


@pytest.mark.parametrize("version", ['9"x', "9\nx", "9&watch=0", "../9"])
async def test_a_version_of_odd_characters_is_asked_for_as_it_is_and_as_nothing_else(
    fake: FakeCluster, tmp_path: Path, version: str
):
    async with connected(fake, tmp_path) as client:
        try:
            async with client.watch(MAPS, {"resourceVersion": version}) as _batches:
                pass
        except ApiError:
            pass
    asked = fake.requests[-1].path
    assert asked.startswith((MAPS + "?resourceVersion=9", MAPS + "?resourceVersion=.."))
    assert asked.count("&watch=") == 1
    assert "watch=1" in asked
    assert "\n" not in asked


async def test_members_said_twice_are_one(fake: FakeCluster, tmp_path: Path):
    twice = b'{"a":"1","a":"2"},"data":{"b":"3"}'
    version = str(fake.revision)
    memory = await after(fake, tmp_path, Reply(body=change("ADDED", "twice", version, twice)))
    assert event_of(memory, "twice").data["object"]["data"] == {"b": "3"}
