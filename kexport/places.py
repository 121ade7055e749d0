"""Where things stand: a stream's place in the cluster's history, a sink's place in the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from kexport.change import Known, StreamKey, newer


class Resync(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A comparison under way: the stream's state must be read anew before its watch may go on.

    It stands in the journal until the last inferred change is in, so that a crash in the middle can't be
    mistaken for a stream that is up to date.
    """

    reason: str
    since: str = ""
    """The version up to which everything is known; "" when nothing is."""
    at: str = ""
    """The oldest version that the server could still watch from: list there, and lose nothing after it."""
    added: int = 0
    modified: int = 0
    deleted: int = 0
    recovered: int = 0
    """Changes that were read back from history and are in the journal, in the order of their versions, …"""
    upto: str = ""
    """… up to this one: a recovery that begins again goes on behind it."""
    unscanned: bool = False
    """Objects that came and went inside the gap may have been overlooked."""

    @property
    def reached(self) -> str:
        """The newest version that the server's history is known to have had; "" when none is."""
        newest = self.since
        for version in (self.upto, self.at):
            newest = version if newer(version, newest) else newest
        return newest


class Position(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a stream goes on: watch from `version`; "" means never listed; `resync` first, if it is set."""

    version: str = ""
    resync: Resync | None = None
    held: bool = False
    """Some changes right behind `version` are in already: they share one version, and more may follow."""
    epoch: int = 0
    """How often the server's history was set back: versions are only comparable within an epoch."""


class Lane(NamedTuple):
    """A sink's place: every event up to `cursor` is done; `dropped` were given up unseen (drop_oldest)."""

    cursor: int
    dropped: int = 0
    """… the last ones before `cursor`."""

    def done(self, reached: int) -> Lane:
        """Once the sink is done with all up to `reached`: what of it had been given up was not lost."""
        spared = max(0, min(reached, self.cursor) - (self.cursor - self.dropped))
        return Lane(max(self.cursor, reached), self.dropped - spared)


class State(NamedTuple):
    """An object as it was told last: its uid, and its shaped JSON with its managers, as a zstd frame."""

    uid: str
    data: bytes


NO_STATES: Mapping[str, State | None] = MappingProxyType({})


class Commit(NamedTuple):
    """What one transaction writes; `lines` follow position `last` of the events before them."""

    last: int
    lines: Sequence[bytes] = ()
    positions: Mapping[StreamKey, Position] = {}
    objects: Mapping[StreamKey, Mapping[str, Known | None]] = {}
    lanes: Mapping[str, Lane] = {}
    states: Mapping[StreamKey, Mapping[str, State | None]] = {}
