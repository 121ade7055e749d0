"""How many events may pass in how much time: a bucket of tokens that fills as time is observed.

Time is that of the events, not of their delivery: what waited out a sink's outage is not held back for coming
all at once, and a burst that was observed is one, however late it is looked at.
"""

from __future__ import annotations

OUT_OF_ORDER_SECONDS = 5.0  # streams are journalled side by side, each in its own order


class Allowance:
    """`per_second` on average, and `burst` at once; 0: one second's worth."""

    def __init__(self, per_second: float, burst: int = 0) -> None:
        self._rate = per_second
        self._most = burst or max(1.0, per_second)
        self._left = float(self._most)
        self._at = 0.0

    def take(self, at: float) -> bool:
        """Whether one more may pass at this moment, in seconds since an epoch; it is counted if so."""
        if at > self._at:
            self._left = min(self._most, self._left + (at - self._at) * self._rate)
            self._at = at
        elif at < self._at - OUT_OF_ORDER_SECONDS:  # the clock was set back, which fills nothing
            self._at = at
        if self._left < 1:
            return False
        self._left -= 1
        return True
