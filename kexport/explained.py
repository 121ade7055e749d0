"""Which versions of an etcd belong to a write that somebody knows.

Every version of etcd is one write. So a version that is known to be one object's is none of any other's: what
is still unknown must have happened at one of those that nothing explains, and only they need to be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable


class Explained:
    """What one stream can explain, and what streams can that share with it."""

    def __init__(self) -> None:
        self._mine: set[int] = set()
        self._all = [self._mine]

    def share(self, other: Explained) -> None:
        """From now on each sees what the other explains; no write may be one of both."""
        self._all.append(other._mine)
        other._all.append(self._mine)

    def add(self, versions: Iterable[int]) -> None:
        """These are writes that this stream knows."""
        self._mine.update(versions)

    def __contains__(self, version: int) -> bool:
        return any(version in some for some in self._all)

    def within(self, versions: range) -> int:
        """How many of these versions are explained."""
        return sum(version in versions for some in self._all for version in some)
