"""How long events stay stored: until every lane has them and `keep_seconds` are over, within `max_bytes`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from kexport.places import Commit, Lane
from kexport.store import Store
from kexport.tables import JournalConfig

TRIM_SECONDS = 1.0


class Retention:
    """Deletes what is no longer wanted. Synchronous: runs on the journal's thread."""

    def __init__(self, config: JournalConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._trimmed_at = 0.0
        self._overrun: dict[str, Lane] = {}
        self._loose = True  # the file may be larger than what is in it
        self.bytes = store.size()
        self.first = 0
        """The position behind which the oldest stored event stands."""
        self._look()

    def _look(self) -> None:
        oldest = self._store.oldest()
        self.first = oldest[0] - oldest[1] if oldest else self._store.last()

    @property
    def max_bytes(self) -> int:
        return self._config.max_bytes

    @property
    def over(self) -> bool:
        """Whether more is stored than `max_bytes`."""
        return self.bytes >= self._config.max_bytes

    @property
    def due(self) -> bool:
        late = time.monotonic() - self._trimmed_at >= TRIM_SECONDS
        return self.over or (late and (bool(self.bytes) or self._loose))

    def trim(self, lanes: Mapping[str, Lane], newest: int) -> dict[str, Lane]:
        """Delete what may go; the lanes that were overrun, at their new places (`drop_oldest` only)."""
        self._trimmed_at = time.monotonic()
        passed = min((lane.cursor for lane in lanes.values()), default=newest)
        # History kept for replay gives way when the room is needed, whatever its age: clocks are set back.
        before = math.inf if self.over else time.time() - self._config.keep_seconds
        self.bytes -= self._store.trim(passed=passed, before=before)
        while self.over and self._config.when_full == "drop_oldest":
            dropped = self._drop_oldest({**lanes, **self._overrun}, newest)
            if dropped is None:
                break
            self._overrun |= dropped  # kept: when the disk fails half way, the next call tells it
        self._look()
        self._loose = self._store.shrink()
        overrun, self._overrun = self._overrun, {}
        return overrun

    def give_way(self, passed: int) -> None:
        """The disk is full: what every lane has makes room for what is new."""
        self.bytes -= self._store.trim(passed=passed, before=math.inf)
        self._look()
        self._loose = self._store.shrink()

    def _drop_oldest(self, lanes: Mapping[str, Lane], newest: int) -> dict[str, Lane] | None:
        """Give up the oldest chunk, and count it for every lane that still wanted it."""
        oldest = self._store.oldest()
        if oldest is None:
            return None
        last, count = oldest
        overrun = {
            name: Lane(last, lane.dropped + last - max(lane.cursor, last - count))
            for name, lane in lanes.items()
            if lane.cursor < last
        }
        # The places first: a crash in between counts nothing twice.
        self._store.commit(Commit(newest, lanes=overrun))
        self.bytes -= self._store.trim(passed=last, before=math.inf, most=1)
        return overrun
