"""A peer that vanished without a word, on a network that can really be cut: two namespaces of the kernel."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kexport import transport
from kexport.errors import ConnectionLostError
from kexport.kube import Client
from kexport.tables import ClusterConfig

SERVER = """
import socket
listening = socket.create_server(("0.0.0.0", 8001))
print("listening", flush=True)
while True:
    taken, _ = listening.accept()
    taken.recv(65536)
    taken.sendall(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n3\\r\\n{}\\n\\r\\n")
    kept = globals().setdefault("kept", [])
    kept.append(taken)
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


@pytest.fixture
def other_end() -> Iterator[str]:
    """A server in a network of its own that answers a watch and then says nothing; the name of its link."""
    name = f"kx{os.getpid() % 100_000}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "far", "netns", name)
        run("ip", "addr", "add", "198.18.77.1/30", "dev", name)
        run("ip", "link", "set", name, "up")
        run("ip", "-n", name, "addr", "add", "198.18.77.2/30", "dev", "far")
        run("ip", "-n", name, "link", "set", "far", "up")
        command = ["ip", "netns", "exec", name, sys.executable, "-c", SERVER]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout
                assert server.stdout.readline() == b"listening\n"
                yield name
            finally:
                server.kill()
    finally:
        run("ip", "netns", "del", name)


async def test_scenario_12_a_watch_without_bookmarks_whose_peer_vanished_is_noticed_by_probes(
    other_end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is awaited from it (`events` send no bookmarks); real probes go unanswered, only sooner."""
    monkeypatch.setattr(transport, "KEEPALIVE", {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3})
    client = Client(ClusterConfig(url="http://198.18.77.2:8001"))
    await client.open()
    try:
        async with client.watch("/api/v1/events", {}, inactivity_seconds=None) as batches:
            assert await anext(batches) == [b"{}"]
            lines = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(6)  # longer than all probes take: an answered one keeps the watch
            assert not lines.done()
            run("ip", "-n", other_end, "link", "set", "far", "down")
            began = time.monotonic()
            with pytest.raises(ConnectionLostError, match="the watch broke"):
                async with asyncio.timeout(60):
                    await lines
            assert time.monotonic() - began < 30
    finally:
        await client.close()
