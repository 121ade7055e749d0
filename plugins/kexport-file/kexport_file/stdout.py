"""The sink for `path = "-"`: JSON lines on standard output, for pipes and for containers' logs.

Whoever reads standard output takes over the responsibility for a line once it is in the pipe.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Sequence

from typing_extensions import override

from kexport import Event, Sink, SinkContext, TransientError
from kexport_file.config import FileConfig, check
from kexport_file.worker import Worker

_STANDARD_OUTPUT = 1


class StandardOutputSink(Sink):
    """Whole lines to file descriptor 1."""

    def __init__(self, config: FileConfig, context: SinkContext) -> None:
        check(config, name=context.name)
        self._name = context.name
        self._torn = False
        self._stopping = threading.Event()
        self._worker = Worker(f"kexport-{context.name}")

    @override
    async def open(self) -> None:
        self._stopping.clear()

    @override
    async def write(self, events: Sequence[Event]) -> None:
        data = b"\n".join([*(event.encode() for event in events), b""])
        try:
            await self._worker.run(lambda: self._print(data))
        except BrokenPipeError as error:
            raise TransientError(
                f"sinks.{self._name}: nobody reads standard output any more: restart kexport with its reader"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise TransientError(f"sinks.{self._name}: cannot write to standard output: {reason}") from error

    @override
    async def close(self) -> None:
        self._stopping.set()  # a reader that stands still would hold up the end of the process
        await self._worker.finish(lambda: None)

    def _print(self, data: bytes) -> None:
        # A newline ends what an interrupted write left: one unreadable line, not two run into one.
        rest = memoryview(b"\n" + data if self._torn else data)
        self._torn = True
        poll = select.poll()
        poll.register(_STANDARD_OUTPUT, select.POLLOUT)
        while rest:
            if self._stopping.is_set():
                raise OSError(errno.ECANCELED, "closed before the reader took every line")
            # No more than PIPE_BUF: a pipe that polls as writable takes that much without blocking.
            if poll.poll(100):
                try:
                    rest = rest[os.write(_STANDARD_OUTPUT, rest[: select.PIPE_BUF]) :]
                except BlockingIOError:
                    self._stopping.wait(0.01)
        self._torn = False
