"""The address at which kexport can be looked at: what it shows, to whom, and that looking costs nothing."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from kexport import status, web
from kexport.change import StreamKey
from kexport.errors import ConfigError, TransientError
from kexport.tables import HttpConfig
from kexport.tally import Seen, Tally
from kexport.testing import make_event
from kexport.web import VIEWERS, Web
from tests.exporter import Memory
from tests.looking import looking, pod

PAGE = (Path(web.__file__).parent / "status.html").read_text(encoding="utf-8")
HOSTILE = "<img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Every element of a page with its attributes; fails at one that is left open or closed twice."""

    VOID = frozenset({"meta", "input", "link", "img", "br", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []

    @override
    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    @override
    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    @override
    def close(self):
        super().close()
        assert not self._open


async def first_event(look, **options):
    async with look.session.get(look.web.url + "/events", **options) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        async with asyncio.timeout(20):
            return await next_event(response)


async def next_event(response):
    line = await response.content.readline()
    assert line.startswith(b"data: "), line
    assert await response.content.readline() == b"\n"
    return json.loads(line[6:])


# -- the page ---------------------------------------------------------------------------------------------


def elements():
    parser = Elements()
    parser.feed(PAGE)
    parser.close()
    return parser.found


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere():
    found = elements()
    assert {"html", "main", "table", "script", "style"} <= {tag for tag, _ in found}
    for tag, attributes in found:
        assert not {"src", "href", "style", "action"} & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.findall(r"(?:https?:)?//[a-z]", PAGE)
    assert "@import" not in PAGE
    assert "url(" not in PAGE


def test_what_comes_from_a_cluster_can_only_become_text():
    assert "textContent" in PAGE
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert way not in PAGE


def test_the_script_finds_every_element_that_it_names():
    ids = {attributes["id"] for _, attributes in elements() if "id" in attributes}
    named = set(re.findall(r'byId\("([a-z-]+)"\)', PAGE))
    assert named
    assert named <= ids


def test_the_page_serves_small_screens_darkness_keyboards_and_readers():
    attributes = [attributes for _, attributes in elements()]
    assert any("width=device-width" in (each.get("content") or "") for each in attributes)
    assert "prefers-color-scheme: dark" in PAGE
    assert any(each.get("aria-live") == "polite" for each in attributes)
    assert any(each.get("id") == "filter" and each.get("aria-label") for each in attributes)
    assert "row.tabIndex = index" in PAGE


async def test_only_the_pages_own_script_and_style_may_run(tmp_path):
    async with looking(tmp_path) as look:
        answer = await look.get("/")
        assert answer.text == PAGE
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        for element in ("script", "style"):
            (inner,) = re.findall(rf"<{element}>(.*?)</{element}>", PAGE, flags=re.DOTALL)
            digest = b64encode(sha256(inner.encode()).digest()).decode()
            assert policy[f"{element}-src"] == f"'sha256-{digest}'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_the_page_reads_members_that_are_there():
    """Each member that the script reads of a stream, a sink and the journal is one of the documented."""
    documented = set(re.findall(r"`([a-z_]+)(?:\[\])?`", status.__doc__ or ""))
    for variable in ("stream", "sink", "journal", "status"):
        read = set(re.findall(rf"\b{variable}\.([a-z_]+)", PAGE)) - {"map", "length"}
        assert read
        assert read <= documented, variable


# -- status.json ------------------------------------------------------------------------------------------


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


# -- live -------------------------------------------------------------------------------------------------


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
        await look.cluster.stop_listening()
        look.cluster.create(pod("lost"))
        look.cluster.forget()
        await look.cluster.listen()
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


async def test_viewers_are_bounded_and_one_who_leaves_makes_room(tmp_path):
    async with looking(tmp_path) as look:
        responses = [await look.session.get(look.web.url + "/events") for _ in range(VIEWERS)]
        for response in responses:
            await next_event(response)
        answer = await look.get("/events")
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        for response in responses:
            response.close()
        await look.exporter.look(
            lambda: look.web._viewers == 0, seconds=20, what=lambda: f"{look.web._viewers} viewers"
        )
        assert (await first_event(look))["status"]["version"]


async def test_a_viewer_who_does_not_read_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(web, "TICK_SECONDS", 0.001)
    async with looking(tmp_path) as look:
        # Events big enough that the kernel's buffers fill at once.
        look.view.stats.waiting = [f"{'x' * 1000}{number}" for number in range(1000)]
        port = int(look.web.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await writer.drain()
        await look.exporter.look(lambda: look.web._viewers == 1, seconds=20, what=lambda: "no viewer")
        await look.exporter.look(lambda: look.web._viewers == 0, seconds=20, what=lambda: "still there")
        look.cluster.create(pod("second"))
        await look.exporter.until(lambda events: events[-1].subject == "default/second")
        # Nor does its connection stay, though nobody reads what is left on it.
        assert look.web._runner
        server = look.web._runner.server
        assert server
        await look.exporter.look(lambda: not server.connections, seconds=10, what=lambda: "still connected")
        writer.transport.abort()
        del reader


async def test_it_closes_at_once_though_somebody_looks(tmp_path):
    async with looking(tmp_path) as look:
        response = await look.session.get(look.web.url + "/events")
        await next_event(response)
        async with asyncio.timeout(5):
            await look.web.close()
            await response.content.read()  # ended as it should be, not cut: that would raise
        assert look.web.url == ""


# -- who may look -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9273", "127.0.0.1.evil.example", ""])
async def test_another_name_for_this_machine_is_refused(tmp_path, host):
    async with looking(tmp_path) as look:
        for path in ("/", "/status.json", "/events", "/metrics"):
            assert (await look.get(path, headers={"Host": host})).status in {400, 421}


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:80", "LOCALHOST"])
async def test_the_names_of_the_machine_itself_are_fine(tmp_path, host):
    async with looking(tmp_path) as look:
        assert (await look.get("/livez", headers={"Host": host})).status == 200


async def test_on_all_addresses_changes_are_for_this_machine_only(tmp_path):
    async with looking(tmp_path, listen="0.0.0.0:0") as look:
        port = look.web.url.rpartition(":")[2]
        url = f"http://127.0.0.1:{port}/events"
        async with look.session.get(url) as response:
            assert (await next_event(response))["changes"]
        async with look.session.get(url, headers={"Host": "kexport.example"}) as response:
            state = await next_event(response)
            assert state["changes"] is None
            assert state["status"]["streams"]


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::ffff:10.0.0.1", False),
     ("10.0.0.1", False), ("0.0.0.0", False), ("", False), (None, False), ("localhost", True)],
)  # fmt: skip
def test_which_addresses_are_this_machine(host, local):
    assert web._is_local(host) is local


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(tmp_path, method):
    async with looking(tmp_path) as look:
        for path in ("/", "/metrics", "/readyz"):
            answer = await look.get(path, method=method)
            assert answer.status == 405
            assert "GET" in answer.headers["Allow"]


async def test_head_is_answered_and_answers_are_neither_kept_nor_shared(tmp_path):
    async with looking(tmp_path) as look:
        for path in ("/", "/metrics", "/readyz", "/livez", "/status.json"):
            answer = await look.get(path, method="HEAD")
            assert (answer.status, answer.text) == (200, "")
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert (await look.get("/nothing")).status == 404
        assert (await look.get("/events", method="HEAD")).status == 405


# -- the address ------------------------------------------------------------------------------------------


@pytest.fixture
def taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


async def test_a_configured_address_that_is_taken_is_an_error(tmp_path, taken):
    async with looking(tmp_path, listen="") as look:
        with pytest.raises(ConfigError, match=r"http\.listen: cannot listen on 127"):
            await Web(HttpConfig(listen=taken), look.view).open()


async def test_if_the_default_is_taken_exporting_goes_on_without(tmp_path, taken, monkeypatch, caplog):
    monkeypatch.setattr(web, "HttpConfig", lambda: HttpConfig(listen=taken))
    async with looking(tmp_path, listen=taken) as look:
        assert look.web.url == ""
        assert "the default address is taken" in caplog.text
        look.cluster.create(pod("second"))
        await look.exporter.until(lambda events: events[-1].subject == "default/second")


async def test_without_an_address_nothing_is_served(tmp_path):
    async with looking(tmp_path, listen="") as look:
        assert look.web.url == ""


async def test_a_stop_while_it_opens_leaves_nothing_listening(tmp_path):
    async with looking(tmp_path, listen="") as look:
        for steps in range(30):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            stopped = Web(HttpConfig(listen=f"127.0.0.1:{port}"), look.view)
            opening = asyncio.ensure_future(stopped.open())
            for _ in range(steps):
                await asyncio.sleep(0)
            if not opening.cancel():
                await stopped.close()
                break
            with pytest.raises(asyncio.CancelledError):
                await opening
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        assert steps > 3


@pytest.mark.parametrize("listen", ["127.0.0.1:70000", "127.0.0.1:65536"])
async def test_a_port_that_cannot_be_is_an_error(tmp_path, listen):
    async with looking(tmp_path, listen="") as look:
        with pytest.raises(ConfigError, match="above 65535"):
            await Web(HttpConfig(listen=listen), look.view).open()


@pytest.mark.parametrize("listen", ["", "127.0.0.1:9273", "[::1]:80", "0.0.0.0:0", "name:1"])
def test_addresses_that_the_configuration_takes(listen):
    assert msgspec.convert({"listen": listen}, HttpConfig).listen == listen


@pytest.mark.parametrize("listen", ["9273", ":9273", "::1:80", "name", "a:b", "http://x:1", "x:1234567"])
def test_addresses_that_the_configuration_refuses(listen):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"listen": listen}, HttpConfig)
