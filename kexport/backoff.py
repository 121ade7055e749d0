"""How long to wait before the next try: doubling, jittered, forgotten after a healthy spell."""

from __future__ import annotations

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
