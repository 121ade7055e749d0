"""What the contract's tests are made of: a sink used as the engine uses it, and looked at from outside.

No pytest here: a plugin's own tests may use these as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from kexport.errors import RejectedError, SinkError, TransientError
from kexport.event import Event
from kexport.sink import Sink, SinkContext
from kexport.telemetry import Log, get_log

# What a Python program does to the world outside; reading a module is no I/O of the sink's.
_OUTSIDE = (
    "ftplib.", "os.", "shutil.", "smtplib.", "socket.", "sqlite3.connect", "subprocess.", "urllib.",
)  # fmt: skip
_HARMLESS = frozenset({"os.fspath", "os.listdir", "os.scandir", "os.walk", "os.putenv", "os.unsetenv"})
_MODULES = (".py", ".pyc", ".so", ".pyd", "METADATA", "entry_points.txt")
_BEAT_SECONDS = 0.01

CLOSE_SECONDS = 10.0
"""How long the engine waits for `close`."""


def make_context(name: str = "sink", *, cluster: str = "test", log: Log | None = None) -> SinkContext:
    """What the engine would tell the sink `[sinks.NAME]`; without a log of its own it gets the engine's."""
    return SinkContext(name=name, cluster=cluster, log=log or get_log("sink", sink=name))


async def deliver(
    sink: Sink,
    events: Sequence[Event],
    *,
    failed: asyncio.Event | None = None,
    refused: list[Event] | None = None,
) -> None:
    """Write until every event is durable or refused, as the engine does.

    `failed` is set at the first failure, `refused` gets what the sink will never accept.
    """
    rest = list(events)
    while rest:
        try:
            await sink.write(list(rest))
        except (TransientError, RejectedError) as error:
            check_count(error, len(rest))
            del rest[: error.written]
            if failed is not None:
                failed.set()
            if isinstance(error, TransientError):
                await asyncio.sleep(0.05)
            elif refused is None:
                raise
            else:
                refused.append(rest.pop(0))
        else:
            break


def check_count(error: SinkError, events: int) -> None:
    """Fail for a `written` that cannot be, which the engine would take for 0."""
    most = events - isinstance(error, RejectedError)
    assert 0 <= error.written <= most, f"S5: written={error.written} of {events} events cannot be: {error!r}"


def in_order(stored: Iterable[str], events: Iterable[Event]) -> bool:
    """Whether the stored ids are a subsequence of these events', repeats aside.

    A repeat may come later, but then everything behind it is repeated, too: both the first copies and the
    last ones are in order.
    """
    place = {event.id: number for number, event in enumerate(events)}
    found = [place[each] for each in stored if each in place]
    first, last = list(dict.fromkeys(found)), list(dict.fromkeys(reversed(found)))
    return first == sorted(first) and last == sorted(last, reverse=True)


def missing(stored: Iterable[str], events: Iterable[Event]) -> list[str]:
    """The ids of those events that are not stored."""
    there = set(stored)
    return [event.id for event in events if event.id not in there]


def some(names: Iterable[str]) -> str:
    """As many of them as a message can hold."""
    each = sorted(names)
    return ", ".join(each[:3]) + (f" and {len(each) - 3} more" if len(each) > 3 else "")


async def outcome(awaitable: Awaitable[object], *, seconds: float, what: str) -> BaseException | None:
    """What it raises, None when it returns; AssertionError when it does neither in time."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        raise AssertionError(
            f"{what} took longer than {seconds:g} s: give the test's config shorter timeouts,"
            " or set patience_seconds"
        )
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def steps(count: int) -> None:
    """Let everything else go on for so many rounds of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def steps_of(task: asyncio.Task[None]) -> int:
    """Wait for the task without a rest; how many rounds of the loop it took."""
    count = 0
    while not task.done():
        await asyncio.sleep(0)
        count += 1
    await task
    return count


async def unfinished(others: set[asyncio.Task[Any]], *, seconds: float) -> set[asyncio.Task[Any]]:
    """The tasks beside these that don't end by themselves within the time."""
    if left := asyncio.all_tasks() - others:
        _, left = await asyncio.wait(left, timeout=seconds)
    return left


class Pauses:
    """How long the event loop stood still; `longest` in seconds."""

    longest = 0.0


@asynccontextmanager
async def pauses() -> AsyncIterator[Pauses]:
    """A heartbeat beside the block, which misses its beat when something blocks the loop."""
    found = Pauses()

    async def beat() -> None:
        while True:
            begin = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)
            found.longest = max(found.longest, time.monotonic() - begin - _BEAT_SECONDS)

    beating = asyncio.create_task(beat(), name="heartbeat")
    try:
        await asyncio.sleep(_BEAT_SECONDS)
        yield found
        await asyncio.sleep(2 * _BEAT_SECONDS)  # a block at the very end counts as well
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


class _Ear(threading.local):
    """Python's audit hooks stay for ever: there is one, which listens only when told, thread by thread."""

    heard: list[str] | None = None
    installed: list[bool] = []  # noqa: RUF012  (one for all threads)


_ear = _Ear()


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    heard = _ear.heard
    if heard is None or event in _HARMLESS:
        return
    if event == "open":
        if not str(arguments[0]).endswith(_MODULES):
            heard.append(f"open {arguments[0]}")
    elif event.startswith(_OUTSIDE) or event == "_thread.start_new_thread":
        heard.append(f"{event} {' '.join(map(str, arguments[:2]))}")


@contextmanager
def input_and_output() -> Iterator[list[str]]:
    """What this thread does outside of its process in the block, and the file descriptors it leaves."""
    if not _ear.installed:
        sys.addaudithook(_listen)
        _ear.installed.append(True)
    before = _descriptors()
    found: list[str] = []
    _ear.heard = found
    try:
        yield found
    finally:
        _ear.heard = None
    found += [f"a new file descriptor: {each}" for each in sorted(_descriptors() - before)]


def _descriptors() -> set[str]:
    """The open file descriptors with what they are; empty where the system doesn't tell."""
    found = set()
    with contextlib.suppress(OSError):
        for number in os.listdir("/proc/self/fd"):  # noqa: PTH208  (names, and as few of our own as can be)
            with contextlib.suppress(OSError):
                found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")  # noqa: PTH115
    return found
