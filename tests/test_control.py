"""The control socket: whose it is, where it is, and that nothing sent to it does any harm."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kexport import control
from kexport.control import Control
from kexport.errors import ConfigError, KexportError
from kexport.remote import NotRunningError, ask
from kexport.request import MAX_BYTES, SOCKET, AnyRequest, Retry, Status, place
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory, toml
from tests.objects import configmap, eventually


async def asked(directory: Path, request: Any, **options: Any) -> dict[str, Any]:
    return await asyncio.to_thread(ask, directory, request, **{"wait_seconds": 60.0, **options})


async def echo(request: AnyRequest) -> dict[str, Any]:
    """Answers every request with itself."""
    return {"request": msgspec.to_builtins(request)}


async def talk(directory: Path, text: bytes, *, end: bool = False) -> dict[str, Any]:
    """Send anything at all, and read the answer."""
    with place(directory) as where:
        reader, writer = await asyncio.open_unix_connection(where.path)
    writer.write(text)
    if end:
        writer.write_eof()
    try:
        async with asyncio.timeout(20):
            line = await reader.readline()
    finally:
        writer.transport.abort()
    answer: dict[str, Any] = json.loads(line)
    return answer


@asynccontextmanager
async def exporting(tmp_path: Path, **journal: Any) -> AsyncIterator[tuple[FakeCluster, Exporter]]:
    async with FakeCluster() as fake:
        configmap(fake, "one")
        text = toml(tmp_path, {"url": fake.url}, [{"resource": "configmaps"}], **journal)
        async with Exporter(text, Memory()) as exporter:
            await exporter.synced()
            yield fake, exporter


async def test_the_socket_is_its_owners_alone_and_goes_with_a_clean_stop(tmp_path: Path) -> None:
    state = tmp_path / "state"
    before = os.umask(0)
    try:
        async with exporting(tmp_path):
            mode = (state / SOCKET).lstat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            document = (await asked(state, Status()))["status"]
            assert (document["cluster"], document["pid"]) == ("test", os.getpid())
    finally:
        os.umask(before)
    assert not (state / SOCKET).exists()
    with pytest.raises(NotRunningError, match="no kexport runs with the journal in"):
        await asked(state, Status())


async def test_a_socket_that_a_crash_left_is_replaced(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(state / SOCKET))
    with pytest.raises(NotRunningError, match="no kexport runs"):
        await asked(state, Status())
    async with exporting(tmp_path):
        assert (await asked(state, Status()))["status"]["cluster"] == "test"


async def test_a_second_process_on_the_same_journal_leaves_the_socket_alone(tmp_path: Path) -> None:
    async with exporting(tmp_path) as (fake, _exporter):
        with pytest.raises(KexportError, match="in use"):
            async with Exporter(
                toml(tmp_path, {"url": fake.url}, [{"resource": "pods"}]), Memory()
            ) as second:
                await second.synced()
        assert (await asked(tmp_path / "state", Status()))["status"]["cluster"] == "test"


async def test_a_path_longer_than_a_sockets_may_be_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    async with exporting(deep):
        assert len(str(deep / "state" / SOCKET)) > 108
        assert (await asked(deep / "state", Status()))["status"]["cluster"] == "test"


async def test_a_stop_while_it_opens_leaves_no_socket(tmp_path: Path) -> None:
    opening = asyncio.ensure_future(Control(tmp_path, echo).__aenter__())
    while not (tmp_path / SOCKET).exists():
        await asyncio.sleep(0)
    assert not opening.done()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not (tmp_path / SOCKET).exists()


async def test_a_journal_in_memory_has_no_socket(tmp_path: Path) -> None:
    async with exporting(tmp_path, path=":memory:"):
        assert not list(tmp_path.rglob(SOCKET))
    with pytest.raises(ConfigError, match="has no control socket"):
        await asked(Path(":memory:"), Status())


async def test_where_no_socket_can_be_it_exports_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state" / SOCKET).mkdir(parents=True)
    async with exporting(tmp_path) as (fake, exporter):
        configmap(fake, "two")
        await exporter.until(lambda events: events[-1].subject == "default/two")
    assert "no control socket" in caplog.text
    assert (tmp_path / "state" / SOCKET).is_dir()


HOSTILE = {
    "nothing": b"\n",
    "not JSON": b"GET / HTTP/1.1\n",
    "not an object": b"[]\n",
    "no request": b"{}\n",
    "an unknown one": b'{"do":"drop-everything"}\n',
    "an unknown member": b'{"do":"status","please":true}\n',
    "a missing member": b'{"do":"retry"}\n',
    "a wrong type": b'{"do":"retry","sink":7}\n',
    "a number that is none": b'{"do":"replay","sink":"memory","sequence":-1}\n',
    "a number beyond SQLite's": b'{"do":"replay","sink":"memory","sequence":99999999999999999999}\n',
    "not UTF-8": b'{"do":"retry","sink":"\xff\xfe"}\n',
    "too long": b'{"do":"retry","sink":"' + b"x" * MAX_BYTES + b'"}\n',
    "nested without end": b'{"do":' + b"[" * 30_000 + b"\n",
    "an end too early": b'{"do":"status"}',
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_what_is_no_request_is_answered_and_harms_nothing(tmp_path: Path, what: str) -> None:
    async with exporting(tmp_path) as (fake, exporter):
        answer = await talk(tmp_path / "state", HOSTILE[what], end=True)
        assert answer["error"]
        assert answer["code"] == 2
        configmap(fake, "after")
        await exporter.until(lambda events: events[-1].subject == "default/after")
        assert (await asked(tmp_path / "state", Status()))["status"]["ready"] is True


@pytest.mark.parametrize("name", ["nobody", "../../etc", "\u202e", "x" * 10_000])
async def test_a_sink_that_there_is_not_is_refused(tmp_path: Path, name: str) -> None:
    async with exporting(tmp_path):
        with pytest.raises(ConfigError, match="no sink named"):
            await asked(tmp_path / "state", Retry(sink=name))


async def test_who_sends_nothing_is_told_so_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "READ_SECONDS", 0.05)
    async with Control(tmp_path, echo):
        assert "no request came" in (await talk(tmp_path, b'{"do":'))["error"]


async def test_more_at_once_than_there_are_places_are_refused_and_a_hang_up_frees_one(tmp_path: Path) -> None:
    started = 0

    async def never(_request: AnyRequest) -> dict[str, Any]:
        nonlocal started
        started += 1
        await asyncio.Event().wait()
        return {}

    async with Control(tmp_path, never):
        open_ones = []
        for _ in range(control.MOST):
            with place(tmp_path) as where:
                _, writer = await asyncio.open_unix_connection(where.path)
            writer.write(b'{"do":"status"}\n')
            open_ones.append(writer)
        await eventually(lambda: started == control.MOST)
        assert "try again" in (await talk(tmp_path, b'{"do":"status"}\n'))["error"]
        for writer in open_ones:
            writer.close()
        await eventually(lambda: len(asyncio.all_tasks()) < 5)
    async with Control(tmp_path, echo):
        assert (await talk(tmp_path, b'{"do":"status"}\n'))["ok"] == {"request": {"do": "status"}}


@pytest.mark.parametrize(
    ("user", "owner", "may"), [(0, 1000, True), (1000, 1000, True), (1001, 1000, False), (1000, 0, False)]
)
def test_the_owner_and_root_may_ask_and_nobody_else(user: int, owner: int, may: bool) -> None:
    assert control.may_ask(user, owner=owner) is may


async def test_a_bug_in_a_request_is_said_and_goes_no_further(tmp_path: Path) -> None:
    async def buggy(_request: AnyRequest) -> dict[str, Any]:
        raise ZeroDivisionError("a bug")

    async with Control(tmp_path, buggy):
        for _ in range(2):
            answer = await talk(tmp_path, b'{"do":"status"}\n')
            assert answer == {"error": "unexpected error: ZeroDivisionError; the log has more", "code": 1}
