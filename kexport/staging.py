"""Things kept aside in order, compressed, in memory while they are few and on disk when they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import zstandard

MEMORY_BYTES = 4 << 20
FRAME_BYTES = 1 << 20
T = TypeVar("T")


class Staging(Generic[T]):
    """A file without a name, gone when it is closed. `kind` is what msgspec knows of the things in it."""

    def __init__(self, kind: type[T], *, directory: Path | None) -> None:
        self._decoder = msgspec.msgpack.Decoder(list[kind])  # type: ignore[valid-type]
        self._directory = str(directory) if directory else None
        self._file = self._new_file()
        self._frame: list[T] = []
        self._frame_bytes = 0

    def _new_file(self) -> tempfile.SpooledTemporaryFile[bytes]:
        return tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=self._directory)

    def clear(self) -> None:
        """Begin anew."""
        self._file.close()
        self._file = self._new_file()
        self._frame, self._frame_bytes = [], 0

    def close(self) -> None:
        self._file.close()

    def append(self, thing: T, size: int) -> None:
        """`size`: about how many bytes it has."""
        self._frame.append(thing)
        self._frame_bytes += size
        if self._frame_bytes >= FRAME_BYTES:
            self._flush()

    def _flush(self) -> None:
        frame = zstandard.compress(msgspec.msgpack.encode(self._frame), 1)
        self._file.write(len(frame).to_bytes(4, "big") + frame)
        self._frame, self._frame_bytes = [], 0

    def frames(self) -> Iterator[list[T]]:
        """All things, about a megabyte at a time; meanwhile nothing may be added, nor read by another."""
        self._flush()
        self._file.seek(0)
        while head := self._file.read(4):
            yield self._decoder.decode(zstandard.decompress(self._file.read(int.from_bytes(head, "big"))))

    def __iter__(self) -> Iterator[T]:
        for frame in self.frames():
            yield from frame
