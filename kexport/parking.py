"""Events that an operator took out of a sink's way: JSON lines in a file beside the journal."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from kexport.errors import KexportError
from kexport.event import Event
from kexport.statedir import sync

FILE = "parked.jsonl"
_BLOCK = 1 << 16


def park(directory: Path, events: Sequence[Event]) -> Path:
    """Append them, durably, or raise KexportError and leave the file as it was."""
    file = directory / FILE
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _append(descriptor, b"".join(event.line + b"\n" for event in events))
        finally:
            os.close(descriptor)
        sync(directory)
    except OSError as error:
        raise KexportError(f"cannot park events in {file}: {error.strerror or error}") from error
    return file


def _append(descriptor: int, text: bytes) -> None:
    os.fchmod(descriptor, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # two sinks' events may be parked at once
    end = _end_of_lines(descriptor)
    os.ftruncate(descriptor, end)  # a line that a crash tore belongs to an event that was not given up
    try:
        written = 0
        while written < len(text):
            written += os.pwrite(descriptor, text[written:], end + written)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _end_of_lines(descriptor: int) -> int:
    """Where the last whole line ends."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
