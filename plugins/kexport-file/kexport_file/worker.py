"""One thread for blocking calls, so that the event loop never waits for a disk or a pipe.

Calls run one after another. A caller that is cancelled leaves at once, the call itself runs to its end, and
whatever comes next waits for it: a cancelled write can neither be torn nor overtaken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Worker:
    def __init__(self, name: str) -> None:
        self._name = name
        self._pool = self._new_pool()

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

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
