"""One file of JSON lines: locked, healed, and never left with a line that is half there.

Everything here blocks and runs in the sink's thread. The file is only ever appended to; the one thing that
is cut away is a tail that nobody was told about.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from datetime import datetime
from pathlib import Path

_BLOCK_BYTES = 65_536
# A power cut may leave zeros in the middle of what was being written, which is one batch at most.
_SUSPECT_BYTES = 32 * 1024 * 1024
_TIME = re.compile(rb'"time":"([^"]{1,40})"')


class LockedError(OSError):
    """Another process, or another sink, writes to this file."""


class ForeignFileError(OSError):
    """What is at the path is no file of JSON lines; cutting its end would destroy somebody's data."""


class LogFile:
    """The file at `path`; `open` before `append`, and again whenever it is no longer `in_place`."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self.path = path
        self.size = 0
        self._fsync = fsync
        self._fd: int | None = None
        # Set while bytes are in the file that may be cut off again; survives a failed attempt to do so.
        self._undo_to: int | None = None

    @property
    def opened(self) -> bool:
        return self._fd is not None

    @property
    def in_place(self) -> bool:
        """Whether the path still names the open file, or somebody renamed or deleted it."""
        if self._fd is None:
            return False
        try:
            there, ours = self.path.stat(), os.fstat(self._fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def open(self) -> int:
        """Open, lock and heal the file at the path; gives the number of bytes that were cut off."""
        make_folders(self.path.parent)
        fd = _open_locked(self.path)
        try:
            cut = _heal(fd)
            self.size = os.fstat(fd).st_size
            if not self.size:
                sync_folder(self.path.parent)
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self._fd = fd
        return cut

    def append(self, data: bytes) -> None:
        """Add these bytes and return when they are on the disk; after an OSError none of them is there."""
        assert self._fd is not None
        self._undo()
        # Asked, not counted: somebody may have truncated the file (logrotate's copytruncate).
        self._undo_to = os.fstat(self._fd).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if self._fsync:
                os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                self._undo()  # if this fails too, the next append or open does it
            raise
        self.size = self._undo_to + len(data)
        self._undo_to = None

    def first_time(self) -> float | None:
        """When the first event in the file was observed, at latest the last write; None for an empty file."""
        assert self._fd is not None
        if not self.size:
            return None
        found = _TIME.search(os.pread(self._fd, _BLOCK_BYTES, 0))
        last_write = os.fstat(self._fd).st_mtime
        try:
            return (
                min(last_write, datetime.fromisoformat(found[1].decode()).timestamp())
                if found
                else last_write
            )
        except ValueError:
            return last_write

    def close(self) -> None:
        """Let go of the file and its lock."""
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            self._undo()
        fd, self._fd, self._undo_to = self._fd, None, None
        with contextlib.suppress(OSError):
            os.close(fd)

    def _undo(self) -> None:
        if self._undo_to is None or self._fd is None:
            return
        if os.fstat(self._fd).st_size > self._undo_to:
            os.ftruncate(self._fd, self._undo_to)
            os.fsync(self._fd)
        self._undo_to = None


def make_folders(folder: Path) -> None:
    """Make the folder and what is missing above it, so that they survive a power cut."""
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a file's own fsync does not cover its name."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_locked(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            ours = os.fstat(fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two calls its last owner may have rotated it away: then this is not our file.
            there = path.stat()
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise LockedError(f"{path} is in use") from None
        except FileNotFoundError:
            pass  # renamed away just now: take the new one
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _heal(fd: int) -> int:
    """Cut off an end that is no whole line, which nobody was told about; gives the number of bytes cut."""
    mode, size = os.fstat(fd).st_mode, os.fstat(fd).st_size
    if not stat.S_ISREG(mode):
        raise ForeignFileError("it is no regular file")
    keep = _end_of_whole_lines(fd, size)
    if keep == size:
        return 0
    if os.pread(fd, 1, keep) not in {b"{", b"\0"}:
        raise ForeignFileError("its last line is no JSON object")
    os.ftruncate(fd, keep)
    os.fsync(fd)
    return size - keep


def _end_of_whole_lines(fd: int, size: int) -> int:
    start = max(0, size - _SUSPECT_BYTES)
    zero = os.pread(fd, size - start, start).find(b"\0")
    return _last_newline(fd, start + zero if zero >= 0 else size)


def _last_newline(fd: int, end: int) -> int:
    """The offset behind the last newline before `end`; looks backwards, as the file may be huge."""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
