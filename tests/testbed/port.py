"""Loopback ports for servers that are killed and come back at the same place."""

from __future__ import annotations

import os
import random
import socket

# Below the range from which systems take the ports of outgoing connections (Linux: 32768 on).
# A port of that range could be lost while its server is down: a client that keeps trying to
# connect may be given the very port as its own, and then even connects to itself.
_ALL = range(20000, 32768)
# Test workers side by side would choose the same one while its server is down: each has its share.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PORTS = _ALL[_WORKER % _WORKERS :: _WORKERS]

_handed_out: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on and that this process didn't get before."""
    for port in random.sample(_PORTS, k=min(200, len(_PORTS))):
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
