"""Loopback ports for servers that are killed and come back at the same place."""

from __future__ import annotations

import random
import socket

# Below the range from which systems take the ports of outgoing connections (Linux: 32768 on).
# A port of that range could be lost while its server is down: a client that keeps trying to
# connect may be given the very port as its own, and then even connects to itself.
_PORTS = range(20000, 32768)

_handed_out: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on and that this process didn't get before."""
    for port in random.sample(_PORTS, k=200):
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise OSError("no free port on 127.0.0.1")
