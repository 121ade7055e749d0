"""How long to wait: before the next try (doubling, jittered, forgotten after a healthy spell), or in line."""

from __future__ import annotations

import asyncio
import random
import time


class Backoff:
    """client-go's numbers by default: 0.8 s doubling to 30 s, reset after two minutes of health."""

    def __init__(
        self, min_seconds: float = 0.8, max_seconds: float = 30.0, healthy_seconds: float = 120.0
    ) -> None:
        self._min = min_seconds
        self._max = max_seconds
        self._healthy = healthy_seconds
        self._failures = 0
        self._failed_at = 0.0

    def next(self, retry_after: float | None = None) -> float:
        """Seconds to wait after one more failure; never less than the other side asked for."""
        now = time.monotonic()
        if now - self._failed_at > self._healthy:
            self._failures = 0
        ceiling = min(self._max, self._min * 2.0 ** min(self._failures, 30))
        wait = max(ceiling * random.uniform(0.5, 1.0), retry_after or 0.0)
        self._failures += 1
        self._failed_at = now + wait
        return wait

    def reset(self) -> None:
        self._failures = 0


class Pace:
    """At most so many a second, evenly."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._next = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        # Up to a second's worth may be saved up, so that a short burst does not queue.
        self._next = max(self._next + self._gap, now - 1.0)
        if self._next > now:
            await asyncio.sleep(self._next - now)
