"""How much history a watch cache keeps: at least 75 seconds of it, within limits on the number of changes."""

from collections import deque

from kexport.testing.clock import Clock
from kexport.testing.store import Change

FRESH_SECONDS = 75.0
_LEAST, _MOST = 100, 100 * 1024


class Ring:
    """The newest changes of one resource.

    Its capacity doubles when it is full of changes from the last 75 seconds, and halves when even its newest
    quarter is older than that. A quiet resource so keeps its last 100 changes, however old they are.
    """

    def __init__(self, clock: Clock, capacity: int | None) -> None:
        self.changes: deque[Change] = deque()
        self._clock = clock
        self._fixed = capacity is not None
        self._capacity = _LEAST if capacity is None else capacity
        self._times: deque[float] = deque()

    def add(self, change: Change) -> bool:
        """Take a change in; tell whether older ones had to go for it."""
        now = self._clock.now()
        held = len(self.changes)
        if held == self._capacity and not self._fixed:
            self._resize(now)
        self.changes.append(change)
        self._times.append(now)
        while len(self.changes) > self._capacity:
            self.changes.popleft()
            self._times.popleft()
        return len(self.changes) <= held

    def clear(self) -> None:
        self.changes.clear()
        self._times.clear()

    def _resize(self, now: float) -> None:
        if now - self._times[0] < FRESH_SECONDS:
            self._capacity = min(2 * self._capacity, _MOST)
        elif now - self._times[-(self._capacity // 4)] > FRESH_SECONDS:
            self._capacity = max(self._capacity // 2, _LEAST)
