"""The fake server's sense of time, which a test can move on without waiting."""

import time


class Clock:
    """Seconds as `time.monotonic` counts them, and what `elapse` added."""

    def __init__(self) -> None:
        self._elapsed = 0.0

    def now(self) -> float:
        return time.monotonic() + self._elapsed

    def elapse(self, seconds: float) -> None:
        self._elapsed += seconds
