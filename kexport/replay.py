"""Where a sink's place is to be set back to, so that it gets stored events once more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from kexport.errors import ConfigError
from kexport.store import Store


class Repeat(NamedTuple):
    """What a sink gets again: so many events, from position `first` on."""

    first: int
    events: int


class Replay(NamedTuple):
    """Stored events from position `sequence` on, or those that were stored since a Unix time; 0 both: all.

    `oldest`: where the journal doesn't reach back that far, what there is.
    """

    sequence: int = 0
    since: float = 0.0
    oldest: bool = False

    def begin(self, store: Store) -> int:
        """The position before the first event that is asked for; raises ConfigError where it is not stored.

        An event that was observed since then was stored since then, too: none that is asked for is left out.
        """
        newest = store.last()
        stored = store.stored_since(0.0)
        if stored is None:
            if self.oldest:
                return newest
            raise ConfigError("the journal keeps no event any more; see journal.keep_seconds")
        first, at = stored
        if self.sequence > newest:
            raise ConfigError(f"there is no event {self.sequence} yet; the newest is {newest}")
        if self._reached(first, at):
            return self._sought(store, newest)
        if self.oldest:
            return first
        raise ConfigError(
            f"the journal does not reach back that far: its oldest event is {first + 1}, stored at"
            f" {datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}; --oldest repeats what there is"
        )

    def _reached(self, first: int, at: float) -> bool:
        if self.sequence:
            return self.sequence > first
        # Where nothing was ever deleted, nothing that is asked for can be missing.
        return first == 0 or self.since >= at

    def _sought(self, store: Store, newest: int) -> int:
        if self.sequence:
            return self.sequence - 1
        found = store.stored_since(self.since)
        return found[0] if found else newest
