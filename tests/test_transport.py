"""The sockets and the way to the API server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport import transport
from kexport.kube import Client
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.raw import serving

PATH = "/api/v1/namespaces/default/configmaps"


@pytest.mark.parametrize("what", ["watch", "list"])
async def test_the_kernel_looks_after_every_idle_connection(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """client-go's numbers, on the very socket: a watch sends nothing, so only probes find its peer gone."""
    made: list[socket.socket] = []
    make = transport._socket

    def remembered(address: Any) -> socket.socket:
        made.append(make(address))
        return made[-1]

    monkeypatch.setattr(transport, "_socket", remembered)
    async with FakeCluster() as fake:
        client = Client(ClusterConfig(url=fake.url))
        await client.open()
        try:
            if what == "watch":
                async with client.watch(PATH, {"resourceVersion": str(fake.revision)}):
                    _has_keepalive(made, fake.url)
            else:
                await client.get(PATH)
                _has_keepalive(made, fake.url)
        finally:
            await client.close()


def _has_keepalive(made: list[socket.socket], url: str) -> None:
    (used,) = made
    host, port = used.getpeername()
    assert url == f"http://{host}:{port}"
    assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    assert [used.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names] == [30, 15, 9]


async def test_kept_connections_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    make = transport._socket

    def counted(address: Any) -> socket.socket:
        made.append(address)
        return make(address)

    monkeypatch.setattr(transport, "_socket", counted)
    async with FakeCluster() as fake:
        client = Client(ClusterConfig(url=fake.url, list_requests_per_second=1000))
        await client.open()
        for _ in range(5):
            await asyncio.gather(*(client.get(PATH, paced=False) for _ in range(8)))
        await client.close()
    assert len(made) <= 8


class Proxy:
    """Takes one request and remembers its head."""

    port: int

    def __init__(self) -> None:
        self.head = b""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    async with serving(proxy.talk) as proxy.port:
        yield proxy


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("user", ["", "me:p%40ss@"])
async def test_the_proxy_that_the_environment_names_is_used(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, user: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{user}127.0.0.1:{proxy.port}")
    client = Client(ClusterConfig(url="http://cluster.invalid:8001"))
    await client.open()
    assert await client.get(PATH) == b"{}"
    await client.close()
    assert proxy.head.startswith(f"GET http://cluster.invalid:8001{PATH} ".encode())
    assert (b"Proxy-Authorization: Basic bWU6cEBzcw==" in proxy.head) == bool(user)


@pytest.mark.usefixtures("no_proxies")
async def test_no_proxy_is_asked_for_an_excepted_host_and_netrc_is_not_read(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    client = Client(ClusterConfig(url=f"http://127.0.0.1:{proxy.port}"))
    await client.open()
    assert await client.get(PATH) == b"{}"
    await client.close()
    assert proxy.head.startswith(f"GET {PATH} ".encode())
    assert b"uthorization" not in proxy.head
