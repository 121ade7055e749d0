"""The sink that appends to a file: one write and one fsync a batch, rotation before a file grows too large.

The blocking work runs in one thread; compressing runs in another, so that it never holds up a write.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from typing_extensions import override

from kexport import ConfigError, Event, Sink, SinkContext, TransientError
from kexport_file.archive import Archive
from kexport_file.config import FileConfig, check
from kexport_file.logfile import ForeignFileError, LockedError, LogFile
from kexport_file.worker import Worker

# What the same call will answer again until somebody changes something outside of kexport.
_FINAL = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EEXIST,  # a file where a folder is wanted
        errno.ENAMETOOLONG,
    }
)


class FileSink(Sink):
    """Events as JSON lines in `config.path`; `clock` gives the seconds since 1970."""

    def __init__(
        self, config: FileConfig, context: SinkContext, *, clock: Callable[[], float] = time.time
    ) -> None:
        check(config, name=context.name)
        self._config = config
        self._context = context
        self._clock = clock
        path = Path(os.path.abspath(os.path.expanduser(config.path)))  # noqa: PTH100, PTH111  (links stay)
        self._file = LogFile(path, fsync=config.fsync)
        self._archive = Archive(path, compress=config.compress, keep_files=config.keep_files)
        self._started: float | None = None
        self._stopping = threading.Event()
        self._writer = Worker(f"kexport-{context.name}")
        self._tidier = Worker(f"kexport-{context.name}-tidy")

    @override
    async def open(self) -> None:
        self._stopping.clear()
        try:
            await self._writer.run(self._open_once)
        except OSError as error:
            raise self._mapped(error, opening=True) from error
        if self._config.rotate_bytes or self._config.rotate_seconds:
            self._tidier.start(self._tidy)

    @override
    async def write(self, events: Sequence[Event]) -> None:
        data = b"\n".join([*(event.encode() for event in events), b""])
        try:
            await self._writer.run(lambda: self._append(data))
        except OSError as error:
            raise self._mapped(error, opening=False) from error

    @override
    async def close(self) -> None:
        self._stopping.set()
        await self._writer.finish(self._file.close)
        await self._tidier.finish(lambda: None)

    def _open_once(self) -> None:
        if not self._file.in_place:  # else an open that was cancelled has done it, and holds the lock
            self._open()

    def _open(self) -> None:
        cut = self._file.open()
        if cut:
            self._context.log.warning(
                "last line was torn and is cut off; it will be written again",
                path=self._file.path,
                bytes_cut=cut,
            )
        self._started = self._file.first_time()

    def _append(self, data: bytes) -> None:
        if not self._file.in_place:
            if self._file.opened:
                self._context.log.warning("file was moved or deleted, a new one begins", path=self._file.path)
            self._open()
        elif self._due(len(data)):
            self._rotate()
        if self._started is None:
            self._started = self._clock()
        self._file.append(data)

    def _due(self, more_bytes: int) -> bool:
        if not self._file.size or self._started is None:
            return False
        large, old = self._config.rotate_bytes, self._config.rotate_seconds
        return bool(
            (large and self._file.size + more_bytes > large) or (old and self._clock() - self._started >= old)
        )

    def _rotate(self) -> None:
        rotated = self._archive.take(self._clock())
        self._context.log.debug("file rotated", path=rotated, bytes=self._file.size)
        self._open()
        self._tidier.start(self._tidy)

    def _tidy(self) -> None:
        try:
            self._archive.tidy(self._stopping)
        except Exception as error:  # noqa: BLE001  (nobody waits for this thread: it is reported here or never)
            self._context.log.warning(
                "rotated files could not be compressed or deleted, tried again at the next rotation",
                path=self._file.path,
                error=f"{type(error).__name__}: {error}",
            )

    def _mapped(self, error: OSError, *, opening: bool) -> ConfigError | TransientError:
        """What the engine is to do about it, said so that somebody can mend it."""
        path = self._file.path
        place, reason = f"sinks.{self._context.name}", error.strerror or str(error)
        if isinstance(error, LockedError):
            problem = f"{place}: another process or sink writes to {path}: give each a path of its own"
        elif isinstance(error, ForeignFileError):
            problem = f"{place}: {path} is no file of JSON lines ({reason}): choose another path"
        elif error.errno in _FINAL:
            problem = (
                f"{place}: cannot write to {path}: {reason}: let user {os.getuid()} write there, or choose"
                " a file in another folder"
            )
        elif error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            problem = f"{place}: no room to write to {path}: {reason}: free some, or set keep_files"
        else:
            problem = f"{place}: cannot write to {path}: {reason}"
        final = isinstance(error, LockedError | ForeignFileError) or error.errno in _FINAL
        return ConfigError(problem) if opening and final else TransientError(problem)
