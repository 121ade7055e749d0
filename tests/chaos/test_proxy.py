"""What the proxy does to connections, seen from both of their ends."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from kexport.testing.port import Port
from tests.chaos.proxy import Proxy


def received(end: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. With a timeout the system's own waiting for all (MSG_WAITALL) gives up early."""
    data = b""
    while len(data) < size:
        some = end.recv(size - len(data))
        assert some, f"{len(data)} of {size} bytes, and then the end"
        data += some
    return data


class Ends:
    """A client through the proxy, and the far end that it reached."""

    def __init__(self, listener: socket.socket, proxy: Proxy) -> None:
        self.client = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
        self.far, _ = listener.accept()
        self.far.settimeout(60)
        self.client.sendall(b"hello")
        assert received(self.far, 5) == b"hello"

    def close(self) -> None:
        self.client.close()
        self.far.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


@pytest.fixture
def proxy(listener: socket.socket) -> Iterator[Proxy]:
    with Proxy(listener.getsockname()[1]) as proxy:
        yield proxy


@pytest.fixture
def ends(listener: socket.socket, proxy: Proxy) -> Iterator[Ends]:
    ends = Ends(listener, proxy)
    yield ends
    ends.close()


def test_bytes_pass_in_both_directions_until_one_end_closes(ends: Ends):
    ends.far.sendall(b"x" * 1_000_000)
    assert received(ends.client, 1_000_000) == b"x" * 1_000_000
    ends.far.close()
    assert ends.client.recv(1) == b""


def test_a_cut_resets_what_is_open_and_takes_what_is_new(listener: socket.socket, proxy: Proxy, ends: Ends):
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        ends.client.recv(1)
    with pytest.raises(ConnectionResetError):
        ends.far.recv(1)
    Ends(listener, proxy).close()


def test_of_a_halved_piece_the_first_half_arrives(proxy: Proxy, ends: Ends):
    proxy.halve()
    ends.client.sendall(b"?")  # upwards all passes, and by then the proxy knows
    assert ends.far.recv(1) == b"?"
    ends.far.sendall(b"abcdef")
    assert received(ends.client, 3) == b"abc"
    with pytest.raises(ConnectionResetError):
        ends.client.recv(1)


def test_what_is_stalled_arrives_later_and_whole(proxy: Proxy, ends: Ends):
    proxy.stall()
    ends.far.sendall(b"later")
    ends.client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ends.client.recv(1)
    proxy.recover()
    ends.client.settimeout(60)
    assert received(ends.client, 5) == b"later"


def test_a_half_open_connection_stays_silent_and_new_ones_work(
    listener: socket.socket, proxy: Proxy, ends: Ends
):
    proxy.forget()
    ends.far.sendall(b"never")
    Ends(listener, proxy).close()
    ends.client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ends.client.recv(1)


def test_a_throttled_connection_takes_its_time(proxy: Proxy, ends: Ends):
    proxy.slow(bytes_per_second=20_000)
    began = time.monotonic()
    ends.far.sendall(b"x" * 8_000)
    assert received(ends.client, 8_000) == b"x" * 8_000
    assert time.monotonic() - began > 0.25
    proxy.recover()
    proxy.slow(delay=0.3)
    began = time.monotonic()
    ends.far.sendall(b"y")
    assert ends.client.recv(1) == b"y"
    assert time.monotonic() - began > 0.25


def test_a_far_end_that_is_away_refuses():
    with (
        Port() as gone,
        Proxy(gone.number) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client,
    ):
        assert client.recv(1) == b""
