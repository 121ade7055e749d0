"""The rotated files beside the live one: named in order, compressed without a moment of loss, cleared away.

    events.jsonl                                   the live file
    events.20260301T120000Z-00000007.jsonl         rotated at that time, the seventh
    events.20260301T110000Z-00000006.jsonl.zst     and compressed

The number grows for ever, so that names sort and never collide, whatever the clock does. A crash at any
moment leaves the plain file or the whole compressed one; `tidy` goes on from there.
"""

from __future__ import annotations

import gzip
import os
import re
import threading
import time
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from kexport_file.config import Compression
from kexport_file.logfile import sync_folder

_ENDINGS: dict[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_CHUNK_BYTES = 1024 * 1024


class Rotated(NamedTuple):
    """One rotated file; `ending` is "", ".gz" or ".zst"."""

    number: int
    path: Path
    ending: str


class Archive:
    """All rotated files of the log file at `path`."""

    def __init__(self, path: Path, *, compress: Compression, keep_files: int) -> None:
        self._path = path
        self._compress: Compression = compress
        self._keep_files = keep_files
        stem, suffix = re.escape(path.stem), re.escape(path.suffix)
        self._name = re.compile(rf"{stem}\.\d{{8}}T\d{{6}}Z-(\d{{8,}}){suffix}(\.gz|\.zst)?(\.tmp)?")

    def take(self, now: float) -> Path:
        """Rename the live file to the next name, durably; gives that name."""
        number = max((each.number for each in self.files()), default=0) + 1
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        rotated = self._path.with_name(f"{self._path.stem}.{stamp}-{number:08d}{self._path.suffix}")
        self._path.rename(rotated)
        sync_folder(self._path.parent)
        return rotated

    def files(self) -> list[Rotated]:
        """The rotated files, oldest first; a temporary one is none."""
        found = (self._name.fullmatch(path.name) for path in self._path.parent.iterdir())
        return sorted(
            Rotated(int(each[1]), self._path.with_name(each[0]), each[2] or "")
            for each in found
            if each and not each[3]
        )

    def tidy(self, stopping: threading.Event) -> None:
        """Finish what a crash left, compress what is plain, delete what is too old; stops soon when asked."""
        for path in self._path.parent.iterdir():
            if path.suffix == ".tmp" and self._name.fullmatch(path.name):
                path.unlink()
        if self._keep_files:
            files = self.files()
            kept = sorted({each.number for each in files})[-self._keep_files :]
            for each in files:
                if each.number not in kept:
                    each.path.unlink(missing_ok=True)
        if self._compress != "none":
            for each in self.files():
                if not each.ending and not stopping.is_set():
                    self._pack(each.path, stopping)

    def _pack(self, plain: Path, stopping: threading.Event) -> None:
        packed = plain.with_name(plain.name + _ENDINGS[self._compress])
        if not packed.exists():  # if it does, it is whole, and a crash came before the plain one was deleted
            temporary = packed.with_name(packed.name + ".tmp")
            try:
                if not self._copy(plain, temporary, stopping):
                    return
                temporary.rename(packed)
            finally:
                temporary.unlink(missing_ok=True)
        sync_folder(plain.parent)
        plain.unlink(missing_ok=True)

    def _copy(self, plain: Path, temporary: Path, stopping: threading.Event) -> bool:
        with plain.open("rb") as source, temporary.open("xb") as raw:
            os.fchmod(raw.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
            with self._compressor(raw) as compressor:
                while chunk := source.read(_CHUNK_BYTES):
                    if stopping.is_set():
                        return False
                    compressor.write(chunk)
            raw.flush()
            os.fsync(raw.fileno())
        return True

    def _compressor(self, raw: BinaryIO) -> gzip.GzipFile | zstandard.ZstdCompressionWriter:
        if self._compress == "gzip":
            return gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0)
        return zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(raw, closefd=False)
