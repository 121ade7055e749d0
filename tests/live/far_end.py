"""A sink's destination as a test sees it: it notes the moment at which each event could be seen there."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any


class FarEnd(threading.Thread, ABC):
    """One sink's destination, and a thread that looks at it every `pause_seconds`."""

    pause_seconds = 0.02
    by_uid = False
    """Whether order is kept for each uid only, and not for each name."""

    def __init__(self, sink: str) -> None:
        super().__init__(name=f"watching {sink}", daemon=True)
        self.sink = sink
        self.arrivals: list[tuple[float, bytes]] = []
        """When an event was first there (seconds since 1970), and its line, in order."""
        self._empty_look = 0.0  # when the last one began that found nothing new
        self._closing = threading.Event()
        self._error: BaseException | None = None

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The sink's table in config.toml."""

    @abstractmethod
    def down(self) -> None: ...

    @abstractmethod
    def up(self) -> None: ...

    @abstractmethod
    def read_back(self) -> list[bytes]:
        """Every event that is there, in order."""

    @abstractmethod
    def _look(self) -> None:
        """Add what is new to `arrivals`; what cannot be reached has nothing new."""

    def run(self) -> None:
        try:
            while not self._closing.wait(self.pause_seconds):
                began, known = time.time(), len(self.arrivals)
                self._look()
                if len(self.arrivals) == known:
                    self._empty_look = began
        except BaseException as error:  # noqa: BLE001  (told to the test's thread)
            self._error = error

    def holds(self, needle: bytes) -> bool:
        """Whether an event with these bytes has arrived; raises what went wrong while watching."""
        self._check()
        return any(needle in line for _, line in self.arrivals)

    def found_nothing_since(self, moment: float) -> bool:
        """Whether a look that began after this moment found nothing more."""
        self._check()
        return self._empty_look > moment

    def lines(self) -> list[bytes]:
        return [line for _, line in self.arrivals]

    def _check(self) -> None:
        if self._error:
            raise self._error

    def close(self) -> None:
        self._closing.set()
        if self.ident is not None:
            self.join(30)

    def _add(self, lines: list[bytes]) -> None:
        moment = time.time()
        self.arrivals += [(moment, line) for line in lines]


class Tail:
    """The complete new lines of a file that may not be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()
