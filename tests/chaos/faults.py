"""How each fault of a plan is brought about, and lifted again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.chaos.plan import Fault
from tests.chaos.world import World
from tests.testbed import Server

Wait = Callable[[], None]
JUMP_SECONDS = 600
SINK_OF = {"broker": "kafka", "broker link": "kafka", "s3": "s3", "s3 link": "s3"}
"""In which sink a fault of the target shows; all others show in each, and are looked for in the file."""


def carry_out(world: World, fault: Fault, *, ending: threading.Event) -> None:
    """Until the trouble is over, which the run's end may hasten; two of one server wait for each other."""
    target, name = fault.kind.target, fault.kind.name

    def wait() -> None:
        ending.wait(fault.seconds)

    if target == "clock":
        _jump(world, JUMP_SECONDS if name == "ahead" else -JUMP_SECONDS, wait)
    elif target.endswith("link"):
        _link(world, fault, wait)
    elif (target, name) == ("kexport", "away while history goes"):
        with _kexport_down(world), world.locks["apiserver"]:
            wait()
            world.compact()
            world.cluster.api.kill()
            world.cluster.api.start()
    elif target == "kexport" and name == "killed":
        with _kexport_down(world):
            wait()
    elif target in _servers(world):
        with world.locks[target]:
            _server(_servers(world)[target], name, wait)
    else:
        _OTHERS[target](world, wait)


def _servers(world: World) -> dict[str, Server]:
    return {
        "kexport": world.kexport,
        "apiserver": world.cluster.api,
        "broker": world.kafka,
        "s3": world.s3,
    }


def _server(server: Server, name: str, wait: Wait) -> None:
    if name == "stopped":
        if not server.running:  # kexport ended by itself just now: there is nothing to stop
            return
        server.pause()
        try:
            wait()
        finally:
            if server.running:
                server.resume()
        return
    if name == "killed":
        server.kill()
    else:
        server.stop()
    wait()
    server.start()


@contextmanager
def _kexport_down(world: World) -> Iterator[None]:
    with world.locks["kexport"]:
        world.wanted.clear()
        world.kexport.kill()
        try:
            yield
        finally:
            world.kexport.start()
            world.wanted.set()


def _link(world: World, fault: Fault, wait: Wait) -> None:
    link = world.links[fault.kind.target]
    match fault.kind.name:
        case "cut":
            link.cut()
        case "halved":
            link.halve()
        case "half-open":
            link.forget()
        case "stalled":
            link.stall()
            wait()
            link.recover()
        case "delayed":
            link.slow(delay=0.15)
            wait()
            link.recover()
        case "throttled":
            link.slow(bytes_per_second=20_000)
            wait()
            link.recover()
        case other:
            raise AssertionError(f"no such fault of a link: {other}")


def _jump(world: World, seconds: int, wait: Wait) -> None:
    """Of kexport's wall clock, and back again: that is a second jump."""
    assert world.clock, "a plan has no jumps where there is no clock"
    world.clock.jump(seconds)
    wait()
    world.clock.jump(0)


def _compact(world: World, wait: Wait) -> None:
    world.compact()
    wait()


def _revoke_token(world: World, wait: Wait) -> None:
    """The API server asks for the token again only on a new request: so there are some."""
    world.access.revoke_token()
    world.links["api link"].cut()
    wait()
    world.access.renew()


def _deny(world: World, wait: Wait) -> None:
    world.access.deny()
    world.links["api link"].cut()
    wait()
    world.access.grant()


def _fill(world: World, wait: Wait) -> None:
    """All of the journal's volume is taken, in small pieces at the end, and given back."""
    ballast = world.journal / "ballast"
    with ballast.open("wb") as file:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    os.write(file.fileno(), b"\0" * size)
            except OSError:
                pass
    wait()
    ballast.unlink()


_OTHERS: dict[str, Callable[[World, Wait], None]] = {
    "etcd": _compact,
    "token": _revoke_token,
    "rights": _deny,
    "journal volume": _fill,
}


class Performance(threading.Thread):
    """One fault under way; `lifted` is when it was over, and `wanted` what etcd had by then."""

    def __init__(self, world: World, fault: Fault, *, ending: threading.Event) -> None:
        super().__init__(name=str(fault), daemon=True)
        self.fault = fault
        self.sink = SINK_OF.get(fault.kind.target, "file")
        self.lifted = 0.0
        self.wanted: dict[str, int] = {}
        self.caught_up_seconds: float | None = None
        self.error: BaseException | None = None
        self._world = world
        self._ending = ending
        self.start()

    def run(self) -> None:
        try:
            carry_out(self._world, self.fault, ending=self._ending)
            self.wanted = dict(self._world.truth.newest)
            self.lifted = time.monotonic()
        except BaseException as error:  # noqa: BLE001  (told to the thread that runs it all)
            self.error = error
