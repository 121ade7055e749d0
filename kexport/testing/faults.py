"""The troubles a test can order: planned answers, and a network that swallows everything."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kexport.testing.failure import ApiFailure

_MESSAGES = {
    429: "too many requests, please try again later",
    500: "Internal error occurred: etcdserver: request timed out",
    503: "apiserver not ready",
}


@dataclass
class _Planned:
    failure: ApiFailure
    path_contains: str
    times: int


class Faults:
    def __init__(self) -> None:
        self._planned: list[_Planned] = []
        self._flowing = asyncio.Event()
        self._flowing.set()

    def plan(self, status: int, *, times: int, path_contains: str, retry_after: int | None) -> None:
        details = None if retry_after is None else {"retryAfterSeconds": retry_after}
        failure = ApiFailure(
            status, _MESSAGES.get(status, f"answer {status}, ordered by the test"), details=details
        )
        self._planned.append(_Planned(failure, path_contains, times))

    def strike(self, path: str) -> None:
        for planned in self._planned:
            if planned.times and planned.path_contains in path:
                planned.times -= 1
                raise planned.failure

    def stall(self) -> Callable[[], None]:
        """Let nothing through any more; call what is returned to let it flow again."""
        self._flowing.clear()
        return self._flowing.set

    async def passed(self) -> None:
        await self._flowing.wait()
