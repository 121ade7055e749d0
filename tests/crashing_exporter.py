"""The real engine in a process that dies at one statement: `python -m tests.crashing_exporter < ORDERS`.

Its events are appended to a file and synced before `write` returns: what the file holds was delivered.
Tracing lines costs the modules nothing: they don't know of it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from kexport import Event, Sink, SinkConfig, SinkContext, SinkType, config
from kexport.engine import Engine

DIED = 77
ROOT = Path(config.__file__).parent
TRACED = {
    str(ROOT / f"{name}.py"): name
    for name in (
        "journal", "store", "database", "disk", "delivery", "cursors", "pending", "retention", "statedir",
        "recent", "states", "laststates", "remembered", "trail", "chunks", "tidying", "hold", "outlet",
        "comparing",
    )
}  # fmt: skip


class Orders(msgspec.Struct):
    """One run of the engine."""

    config: str
    out: str
    until: str
    """The run ends by itself when an event about this object was delivered."""
    die_at: str = ""
    """`module:line#occurrence`: die when this line is about to run so often."""
    visited: str = ""
    """A file that gets each line that ran, with how often."""


class Lines:
    """Counts the lines of the traced modules as they are about to run; ends the process at one."""

    def __init__(self, die_at: str) -> None:
        place, _, occurrence = die_at.partition("#")
        self._place, self._occurrence = place, int(occurrence or 0)
        self.visits: dict[str, int] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.settrace(self.call)
        sys.settrace(self.call)

    def call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self.line if frame.f_code.co_filename in TRACED else None

    def line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            place = f"{TRACED[frame.f_code.co_filename]}:{frame.f_lineno}"
            with self._lock:
                visits = self.visits[place] = self.visits.get(place, 0) + 1
            if place == self._place and visits == self._occurrence:
                os._exit(DIED)
        return self.line


class FileConfig(SinkConfig, frozen=True):
    """No settings: the orders name the file."""


def sink_type(out: Path, until: str, reached: asyncio.Event) -> SinkType[FileConfig]:
    class FileSink(Sink):
        def __init__(self, _config: FileConfig, context: SinkContext) -> None:
            self._file = out.open("ab")

        async def write(self, events: Sequence[Event]) -> None:
            self._file.writelines(event.line + b"\n" for event in events)
            self._file.flush()
            os.fsync(self._file.fileno())
            if any(event.subject.endswith(f"/{until}") for event in events):
                reached.set()

        async def close(self) -> None:
            self._file.close()

    return SinkType("synced", FileConfig, FileSink)


async def run(orders: Orders) -> None:
    stop = asyncio.Event()
    loaded = config.parse(orders.config, {"synced": sink_type(Path(orders.out), orders.until, stop)})
    await Engine(loaded).run(stop)


def obey(orders: Orders) -> None:
    lines = Lines(orders.die_at)
    lines.start()
    asyncio.run(run(orders))
    sys.settrace(None)
    if orders.visited:
        Path(orders.visited).write_bytes(msgspec.json.encode(lines.visits))


def main() -> None:
    """A child for each line of orders; its exit code is the answer. The imports are made once, here."""
    for order in sys.stdin:
        child = os.fork()
        if not child:
            code = 1
            try:
                obey(msgspec.json.decode(order, type=Orders))
                code = 0
            finally:
                sys.stderr.flush()
                if code:
                    traceback.print_exc()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
