"""Stored events as they lie on disk: a row of `chunks` is a zstd frame of many, one JSON a line.

A row an event was four times slower. A row's key is the position of its *last* event, so that "what comes
after position N" is one seek.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import zstandard

from kexport.errors import DamagedChunkError

# zstd finds what repeats within its window and a chunk. Where pods of 200 owners take turns, this takes
# 0.71 times the bytes of 1 MB with level 1's own window (512 KB), in the same time.
CHUNK_BYTES = 2 << 20
ZSTD = zstandard.ZstdCompressionParameters.from_level(1, window_log=21, hash_log=15, write_checksum=True)
_SEAL = struct.Struct("<IIQI")
_SEAL_MAGIC = 0x184D2A5B  # a skippable frame: to zstd it says nothing


class Chunk(NamedTuple):
    """Consecutive events as they lie on disk; the last of `lines` is at position `last`."""

    last: int
    lines: list[bytes]


def seal(last: int, count: int) -> bytes:
    """Says inside the chunk which events it holds, since the row's own key has no checksum."""
    return _SEAL.pack(_SEAL_MAGIC, _SEAL.size - 8, last, count)


def unpack(last: int, count: int, data: bytes) -> list[bytes]:
    """The lines of a chunk; raises DamagedChunkError for one that is damaged, or of other events."""
    place = f"the journal's chunk that ends at event {last}"
    sealing = seal(last, count)
    try:
        if data[:4] == sealing[:4]:  # a journal of before 0.2 has none
            if not data.startswith(sealing):
                raise DamagedChunkError(f"{place} holds other events", last=last, count=count)
            data = data[len(sealing) :]
        lines = zstandard.ZstdDecompressor().decompress(data).split(b"\n")
    except (zstandard.ZstdError, TypeError, MemoryError) as error:
        raise DamagedChunkError(f"{place} is damaged: {error}", last=last, count=count) from error
    if len(lines) != count:
        raise DamagedChunkError(f"{place} has {len(lines)} of {count} events", last=last, count=count)
    return lines


def cut(last: int, lines: Sequence[bytes]) -> Iterable[tuple[int, Sequence[bytes]]]:
    """Cut `lines`, which follow position `last`, into chunks of about CHUNK_BYTES: (last position, lines)."""
    start = size = 0
    for end, line in enumerate(lines, start=1):
        size += len(line)
        if size >= CHUNK_BYTES or end == len(lines):
            yield last + end, lines[start:end]
            start, size = end, 0
