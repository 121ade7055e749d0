"""The address at which kexport can be looked at: who may look, and that looking costs nothing."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from kexport import web
from kexport.errors import ConfigError
from kexport.tables import HttpConfig
from kexport.testing.port import Port
from kexport.web import VIEWERS, Web
from tests.looking import first_event, looking, next_event, pod

# -- looking costs nothing --------------------------------------------------------------------------------


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
        await look.exporter.look(lambda: not server.connections, seconds=60, what=lambda: "still connected")
        writer.transport.abort()
        del reader


async def test_it_closes_at_once_though_somebody_looks(tmp_path):
    async with looking(tmp_path) as look:
        response = await look.session.get(look.web.url + "/events")
        await next_event(response)
        async with asyncio.timeout(30):
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
            with Port() as port:
                stopped = Web(HttpConfig(listen=f"127.0.0.1:{port.number}"), look.view)
                opening = asyncio.ensure_future(stopped.open())
                for _ in range(steps):
                    await asyncio.sleep(0)
                if not opening.cancel():
                    await stopped.close()
                    break
                with pytest.raises(asyncio.CancelledError):
                    await opening
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", port.number)
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
