"""When it is time for a transaction: at once after a pause, together under load, later for places alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kexport import pending as module
from kexport.change import StreamKey
from kexport.cursors import Cursors
from kexport.pending import Pending
from kexport.places import Lane, Position
from kexport.testing import make_event

PODS = StreamKey("pods/*")
HOUR = 3600.0


def change(pending: Pending, number: int) -> None:
    pending.add(PODS, [make_event(number)], {}, Position(version=str(number)))


def bookmark(pending: Pending, number: int) -> None:
    pending.add(PODS, [], {}, Position(version=str(number)))


async def gathers(pending: Pending, *, cursors: Cursors | None = None) -> None:
    """Raises TimeoutError when it is not time within seconds, where waiting would mean an hour."""
    async with asyncio.timeout(30):
        await pending.gather(cursors or Cursors({}), HOUR)


async def waits(pending: Pending, until: Callable[[], None]) -> None:
    """It is not time for a transaction yet, until this happens."""
    gathering = asyncio.create_task(gathers(pending))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not gathering.done()
    until()
    await gathering


async def test_a_change_after_a_pause_is_written_at_once() -> None:
    pending = Pending(1 << 30)
    change(pending, 1)
    await gathers(pending)


async def test_what_comes_right_behind_a_transaction_waits_for_company() -> None:
    pending = Pending(1 << 30)
    change(pending, 1)
    await gathers(pending)
    pending.take(last=0, lanes={})
    change(pending, 2)
    await waits(pending, pending.hurry)


async def test_a_place_alone_waits_until_a_change_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACE_COMMIT_SECONDS", HOUR)
    pending = Pending(1 << 30)
    bookmark(pending, 1)
    await waits(pending, lambda: change(pending, 2))
    assert pending.take(last=0, lanes={}).commit.positions == {PODS: Position(version="2")}


async def test_a_place_alone_is_written_when_somebody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACE_COMMIT_SECONDS", HOUR)
    pending = Pending(1 << 30)
    bookmark(pending, 1)
    await waits(pending, pending.hurry)


async def test_a_place_alone_is_written_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACE_COMMIT_SECONDS", 0.01)
    pending = Pending(1 << 30)
    bookmark(pending, 1)
    await gathers(pending)
    assert pending.take(last=0, lanes={}).commit.positions == {PODS: Position(version="1")}


async def test_places_go_along_with_a_sinks_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACE_COMMIT_SECONDS", HOUR)
    pending, cursors = Pending(1 << 30), Cursors({"a": Lane(0)})
    cursors.set("a", Lane(1))
    bookmark(pending, 1)
    await gathers(pending, cursors=cursors)
