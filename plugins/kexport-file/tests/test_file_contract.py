"""The sink contract on real disks: a file that the kernel lets grow no further is a disk that is full."""

from __future__ import annotations

import gzip
import json
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import kexport_file
import pytest
import zstandard
from kexport_file.config import FileConfig

from kexport.testing import SinkContract

_ROOM_BYTES = 2_000  # so that the disk is full in the middle of a batch


def lines(path: Path) -> list[bytes]:
    """Every whole line, of the rotated files first, as `cat` and `zstdcat` show them."""
    while True:
        files = _files(path)
        try:
            found = b"".join(map(_content, files))
        except FileNotFoundError:
            continue  # compressed, or rotated, between the two looks
        if _files(path) == files:
            return found.split(b"\n")[:-1]


def _files(path: Path) -> list[Path]:
    rotated = sorted(each for each in path.parent.glob(f"{path.stem}.*-*") if each.suffix != ".tmp")
    packed = {each.stem for each in rotated if each.suffix in {".gz", ".zst"}}
    return [each for each in [*rotated, *path.parent.glob(path.name)] if each.name not in packed]


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


class FileContract(SinkContract[FileConfig]):
    sink_type = kexport_file.file_sink

    async def stored(self, config: FileConfig) -> list[str]:
        return [json.loads(line)["id"] for line in lines(Path(config.path))]

    async def records(self, config: FileConfig) -> list[bytes]:
        return lines(Path(config.path))

    @asynccontextmanager
    async def outage(self, config: FileConfig) -> AsyncIterator[None]:
        path = Path(config.path)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = 0  # not begun, or just now rotated
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + _ROOM_BYTES, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestFile(FileContract):
    """One file; nothing is unacceptable to it."""

    @pytest.fixture
    def config(self, tmp_path: Path) -> FileConfig:
        return FileConfig(path=str(tmp_path / "folder" / "events.jsonl"))


class TestFileWithoutFsync(FileContract):
    @pytest.fixture
    def config(self, tmp_path: Path) -> FileConfig:
        return FileConfig(path=str(tmp_path / "events.jsonl"), fsync=False)


class TestFileThatRotates(FileContract):
    """A few events a file, and each is compressed; a file that begins anew in an outage is full soon, too."""

    @pytest.fixture(params=["none", "gzip", "zstd"])
    def config(self, tmp_path: Path, request: pytest.FixtureRequest) -> FileConfig:
        return FileConfig(path=str(tmp_path / "events.jsonl"), rotate_bytes=20_000, compress=request.param)
