"""One thread for blocking calls, so that the event loop never waits for a disk or a pipe.

Calls run one after another. A caller that is cancelled leaves at once, the call itself runs to its end, and
whatever comes next waits for it: a cancelled write can neither be torn nor overtaken. It waits with its
caller, not in the thread's queue: on a disk that hangs each try would leave its data there.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    def __init__(self, name: str) -> None:
        self._name = name
        self._pool = self._new_pool()
        self._running: asyncio.Future[Any] | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """The answer of `call`; raises OSError when `finish` came while it waited for its turn."""
        pool = self._pool
        while self._running and not self._running.done():
            await asyncio.wait([self._running])
        if pool is not self._pool:
            raise OSError(errno.ECANCELED, "closed before it was its turn")
        self._running = running = asyncio.get_running_loop().run_in_executor(pool, call)
        running.add_done_callback(_look)
        return await asyncio.shield(running)

    def start(self, call: Callable[[], None]) -> None:
        """Let it run without waiting; `call` deals with its own errors."""
        self._pool.submit(call)

    async def finish(self, last: Callable[[], None]) -> None:
        """Run what is waiting and then `last`, also when the caller is cancelled; the thread ends with it."""
        end = self._pool.submit(last)
        self._pool.shutdown(wait=False)
        self._pool = self._new_pool()
        await asyncio.shield(asyncio.wrap_future(end))

    def _new_pool(self) -> ThreadPoolExecutor:
        """A pool starts its thread at the first call, so that an unused one costs nothing."""
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)


def _look(done: asyncio.Future[Any]) -> None:
    """Nobody may wait for it any more: its error is not to be reported as forgotten."""
    if not done.cancelled():
        done.exception()
