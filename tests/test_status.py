"""What there is to see of a running exporter: its state, the changes as they come, and no secret."""

from __future__ import annotations

import asyncio
import json
import re

import msgspec

from kexport import status
from kexport.change import StreamKey
from kexport.errors import TransientError
from kexport.tally import Seen, Tally
from kexport.testing import make_event
from tests.exporter import Memory
from tests.looking import first_event, looking, next_event, pod

HOSTILE = "<img src=x onerror=alert(1)>"


async def test_the_status_has_the_documented_members(tmp_path):
    async with looking(tmp_path) as look:
        answer = await look.get("/status.json")
        document = json.loads(answer.text)
        documented = set(re.findall(r"`([a-z_]+)(?:\[\])?`", status.__doc__ or ""))
        tables = [
            document,
            document["streams"][0],
            document["sinks"][0],
            document["journal"],
            document["config"],
        ]
        for table in tables:
            assert set(table) <= documented
        assert document["cluster"] == "test"
        assert document["ready"] is True
        assert document["streams"][0]["key"] == "pods/*"
        assert document["streams"][0]["synced"] is True
        sink = document["sinks"][0]
        assert (sink["name"], sink["type"], sink["state"]) == ("memory", "memory", "delivering")
        assert document["journal"]["events"] == len(look.exporter.events)
        assert document["gaps"] == []


async def test_a_secret_of_the_configuration_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KX_SECRET", "hunter2hunter2")
    memory = Memory()
    async with looking(tmp_path, memory=memory, secret="${KX_SECRET}") as look:

        def down(_events):
            raise TransientError("login with hunter2hunter2 failed")

        memory.fail = down
        look.cluster.create(pod("second"))
        lane = look.view.stats.lanes["memory"]
        await look.exporter.look(lambda: bool(lane.error), seconds=20, what=lambda: str(lane))
        look.view.stats.reload_error = "bad value hunter2hunter2"
        told = await first_event(look)
        documents = [(await look.get("/status.json")).text, json.dumps(told["status"])]
        documents.append((await look.get("/readyz?verbose")).text)
        for text in documents:
            assert "login with ${KX_SECRET} failed" in text
            assert "login with hunter2" not in text
            assert "bad value hunter2" not in text
        memory.fail = lambda _events: None


async def test_changes_appear_live_with_hostile_names_as_they_are(tmp_path):
    async with looking(tmp_path) as look, look.session.get(look.web.url + "/events") as response:
        async with asyncio.timeout(30):
            first = await next_event(response)
            assert [change["key"] for change in first["changes"]][-1] == "default/first"
            look.cluster.create(pod("second", labels={"a": "b"}, annotations={"x": HOSTILE}))
            while True:
                state = await next_event(response)
                if state["changes"][0]["key"] == "default/second":
                    break
        change = state["changes"][0]
        assert (change["change"], change["origin"], change["diff"]) == ("added", "watch", [])
        assert state["status"]["streams"][0]["changes"] >= 1


async def test_a_gap_is_shown(tmp_path):
    async with looking(tmp_path) as look:
        await look.miss("lost")
        await look.exporter.synced(2)
        (gap,) = (await first_event(look))["status"]["gaps"]
        assert (gap["stream"], gap["reason"], gap["complete"]) == ("pods/*", "expired", True)
        assert gap["recovered"] == 1
        # The first listing's object, and the one that was read back.
        assert status.document(look.view)["streams"][0]["changes"] == 2


def test_a_patch_is_shown_line_by_line_and_cut_where_it_is_long():
    attributes = make_event(1).attributes
    patch = [
        {"op": "replace", "path": "/spec/replicas", "value": 3},
        {"op": "remove", "path": "/metadata/labels/a"},
        {"op": "add", "path": "/spec/x", "value": "y" * 1000},
        *({"op": "add", "path": f"/n/{number}", "value": HOSTILE} for number in range(100)),
    ]
    line = msgspec.json.encode({"data": {"object": {}, "patch": patch}})
    diff = status._change(Seen(attributes, line))["diff"]
    assert diff[:2] == ["~ /spec/replicas = 3", "- /metadata/labels/a"]
    assert diff[2].endswith("…")
    assert len(diff[2]) < 300
    assert len(diff) == 41
    assert diff[-1] == "…"


async def test_of_a_big_event_only_the_attributes_are_kept(tmp_path):
    async with looking(tmp_path) as look:
        look.cluster.create(pod("big", annotations={"text": "x" * 100_000}))
        await look.exporter.until(lambda events: events[-1].subject == "default/big")
        seen = look.view.journal.tally.recent[-1]
        assert (seen.attributes.subject, seen.line) == ("default/big", b"")
        assert status.changes(look.view)[0]["diff"] == []


def test_the_newest_fifty_are_kept():
    tally = Tally()
    tally.take(StreamKey("pods/*"), [make_event(number) for number in range(1, 201)])
    assert len(tally.recent) == 50
    assert tally.recent[-1].attributes.id == make_event(200).id
    assert tally.newest == 200
