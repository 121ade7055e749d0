"""What diffs compare with: the last told state of each object, out of the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from kexport.change import StreamKey
from kexport.disk import Disk
from kexport.pending import Pending
from kexport.places import State


class LastStates:
    """A part of the journal; states are written with what is appended."""

    def __init__(self, disk: Disk, pending: Pending, flush: Callable[[], Awaitable[None]]) -> None:
        self._disk = disk
        self._pending = pending
        self._flush = flush

    @property
    def appends(self) -> int:
        """How many appends there were; …"""
        return self._pending.number

    @property
    def durable(self) -> int:
        """… and how many of them are on disk."""
        return self._pending.durable

    async def read(self, stream: StreamKey, keys: Sequence[str]) -> dict[str, State]:
        """The durable states of these objects."""
        return await self._disk.consult(self._disk.to_read.states, stream, keys)

    async def keys(self, stream: StreamKey) -> set[str]:
        """The objects that have one."""
        return await self._disk.consult(self._disk.to_read.state_keys, stream)

    async def keep(self, wanted: Mapping[StreamKey, str]) -> None:
        """Forget those of other streams, and of streams whose objects were shaped otherwise."""
        await self._flush()
        await self._disk.write(self._disk.store.keep_states, wanted)
