"""What is remembered for diffs: what was fetched is there when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from kexport.change import StreamKey
from kexport.laststates import LastStates
from kexport.places import State
from kexport.remembered import Remembered

PODS, MAPS = StreamKey("pods/*"), StreamKey("configmaps/*")


class Stored:
    """A journal without a state; while it is read, all that was appended becomes durable."""

    appends = 1
    durable = 0

    async def read(self, stream: StreamKey, keys: Sequence[str]) -> dict[str, State]:
        self.durable = self.appends + 1
        return {key: State("u", f"stored {stream} {key}".encode()) for key in keys if key != "new"}


async def test_what_becomes_durable_while_another_is_read_is_kept() -> None:
    remembered = Remembered(cast("LastStates", Stored()), max_bytes=0)
    remembered.put(PODS, "a", State("u", b"told"))
    await remembered.fetch(PODS, ["a", "b", "new"])
    assert remembered.get(PODS, "a") == State("u", b"told")
    assert remembered.get(PODS, "b") == State("u", b"stored pods/* b")
    assert remembered.get(PODS, "new") is None


async def test_beyond_the_bound_only_what_was_fetched_last_is_kept() -> None:
    remembered = Remembered(cast("LastStates", Stored()), max_bytes=0)
    await remembered.fetch(PODS, ["a", "b"])
    await remembered.fetch(MAPS, ["a"])
    await remembered.fetch(PODS, ["a"])
    assert [*remembered._entries] == [(PODS, "a")]
    assert remembered._size == remembered._entries[PODS, "a"].size
