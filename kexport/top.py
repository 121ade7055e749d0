"""`kexport top`: the running exporter, live on a terminal; one picture, where there is none."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live

from kexport.errors import ConfigError, KexportError
from kexport.frame import Look, Size, frame, lines_of
from kexport.remote import NotRunningError, ask
from kexport.request import Status

TICK_SECONDS = 1.0
KEY_SECONDS = 0.2  # how soon a new size of the terminal is taken up
RATE_SECONDS = 5.0
ANSWER_SECONDS = 3.0


def top(directory: Path) -> None:
    """Show it until `q` or Ctrl-C; raises KexportError where nothing runs and nobody could wait for it."""
    console = Console(highlight=False)
    if not (console.is_terminal and sys.stdin.isatty()):
        look = _look(directory)
        console.print(frame(look, None, Size(console.width, lines_of(look))))
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even where whoever started us ignores it
    with suppress(KeyboardInterrupt), _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        _Top(directory, live).run()


class _Top:
    """What is shown, and since when."""

    def __init__(self, directory: Path, live: Live) -> None:
        self._directory = directory
        self._live = live
        self._looks: deque[Look] = deque()
        self._note = ""
        self._paused = False
        self._asked_at = 0.0

    def run(self) -> None:
        size = None
        while True:
            now = time.monotonic()
            due = now - self._asked_at >= TICK_SECONDS and not self._paused
            if due:
                self._ask(now)
            if due or self._size != size:
                size = self._size
                self._show(size)
            key = _key()
            if key in {"q", "Q"}:
                return
            if key in {"p", "P", " "}:
                self._paused = not self._paused
                self._show(size)

    @property
    def _size(self) -> Size:
        width, height = self._live.console.size
        return Size(width, height)

    def _ask(self, now: float) -> None:
        self._asked_at = now
        try:
            look = _look(self._directory)
        except ConfigError:
            raise  # waiting won't help
        except KexportError as error:
            gone = "kexport does not run" if isinstance(error, NotRunningError) else str(error)
            self._note = f"{gone}; waiting for it to come back" if self._looks else f"waiting: {error}"
            return
        self._note = ""
        if self._looks and self._looks[-1].status["pid"] != look.status["pid"]:
            self._looks.clear()
        self._looks.append(look)
        while len(self._looks) > 2 and look.at - self._looks[1].at >= RATE_SECONDS:
            self._looks.popleft()

    def _show(self, size: Size) -> None:
        look = self._looks[-1] if self._looks else None
        before = self._looks[0] if len(self._looks) > 1 else None
        note = "paused" if self._paused else self._note
        self._live.update(frame(look, before, size, note=note), refresh=True)


def _look(directory: Path) -> Look:
    answer = ask(directory, Status(changes=True), wait_seconds=ANSWER_SECONDS)
    return Look(time.monotonic(), answer["status"], answer["changes"])


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come at once and are not shown; the terminal is as before afterwards."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key() -> str:
    """The key that is pressed within a moment; "" if none is, "q" when the terminal is gone."""
    ready, _, _ = select.select([sys.stdin], [], [], KEY_SECONDS)
    return (os.read(sys.stdin.fileno(), 1).decode("latin-1") or "q") if ready else ""
