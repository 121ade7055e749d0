"""Rotation: no line is lost, doubled or out of order, whatever interrupts it."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
from pathlib import Path

import pytest
import zstandard
from kexport_file.sink import FileSink

from kexport import TransientError
from kexport.testing import SinkLog, make_event

from .file_arrangement import Clock, build, events, lines, opened, rotated

HOUR = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def log() -> SinkLog:
    return SinkLog()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_file_rotates_before_it_grows_too_large(path: Path, clock: Clock) -> None:
    size = len(lines(events(1, 2)))
    async with opened(path, clock=clock, rotate_bytes=size + 10) as sink:
        for first in (1, 3, 5):
            await sink.write(events(first, first + 1))
    assert [each.name for each in rotated(path)] == [
        "events.20260101T000000Z-00000001.jsonl",
        "events.20260101T000000Z-00000002.jsonl",
    ]
    assert b"".join(each.read_bytes() for each in [*rotated(path), path]) == lines(events(1, 6))


async def test_a_batch_larger_than_a_file_stays_whole(path: Path) -> None:
    async with opened(path, rotate_bytes=10) as sink:
        await sink.write(events(1, 20))
        assert rotated(path) == []
        await sink.write(events(21, 40))
    assert [each.read_bytes() for each in rotated(path)] == [lines(events(1, 20))]


async def test_names_sort_though_the_clock_is_set_back(path: Path, clock: Clock) -> None:
    async with opened(path, clock=clock, rotate_bytes=1) as sink:
        for number in range(1, 4):
            clock.now -= HOUR
            await sink.write([make_event(number)])
    by_number = sorted(rotated(path), key=lambda each: each.name.rpartition("-")[2])
    assert b"".join(each.read_bytes() for each in by_number) == lines(events(1, 2))


async def test_a_file_rotates_by_age_counted_from_its_first_write(path: Path, clock: Clock) -> None:
    async with opened(path, clock=clock, rotate_seconds=HOUR) as sink:
        clock.now += 5 * HOUR  # an empty file has no age
        await sink.write(events(1, 1))
        clock.now += HOUR - 1
        await sink.write(events(2, 2))
        assert rotated(path) == []
        clock.now += 1
        await sink.write(events(3, 3))
        assert [each.read_bytes() for each in rotated(path)] == [lines(events(1, 2))]


async def test_age_survives_a_restart(path: Path, clock: Clock) -> None:
    async with opened(path, clock=clock, rotate_seconds=HOUR) as sink:
        await sink.write(events(1, 1))
    clock.now += HOUR
    async with opened(path, clock=clock, rotate_seconds=HOUR) as sink:
        await sink.write(events(2, 2))
    assert [each.read_bytes() for each in rotated(path)] == [lines(events(1, 1))]


@pytest.mark.parametrize("compress", ["gzip", "zstd"])
async def test_rotated_files_are_compressed_and_the_plain_ones_deleted(path: Path, compress: str) -> None:
    async with opened(path, rotate_bytes=1, compress=compress) as sink:
        for number in range(1, 4):
            await sink.write([make_event(number)])
    async with opened(path, rotate_bytes=1, compress=compress) as sink:
        await settle(sink)
    packed = rotated(path)
    assert {each.suffix for each in packed} == {".gz" if compress == "gzip" else ".zst"}
    assert b"".join(map(unpack, packed)) == lines(events(1, 2))


async def settle(sink: FileSink) -> None:
    """Wait for the compressing that was begun."""
    await sink._tidier.run(lambda: None)


def unpack(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


async def test_compressing_that_a_crash_broke_off_is_done_again_at_open(path: Path) -> None:
    first = path.with_name("events.20260101T000000Z-00000001.jsonl")
    second = path.with_name("events.20260101T000000Z-00000002.jsonl")
    first.write_bytes(lines(events(1, 1)))  # broken off while compressing
    first.with_name(first.name + ".gz.tmp").write_bytes(b"half")
    second.write_bytes(lines(events(2, 2)))  # broken off before the plain one was deleted
    second.with_name(second.name + ".gz").write_bytes(gzip.compress(lines(events(2, 2))))
    stranger = path.with_name("somebody.else.tmp")
    stranger.touch()
    async with opened(path, rotate_bytes=1, compress="gzip") as sink:
        await settle(sink)
    assert [each.name for each in rotated(path)] == [first.name + ".gz", second.name + ".gz", stranger.name]
    assert b"".join(map(unpack, rotated(path)[:2])) == lines(events(1, 2))


async def test_close_breaks_compressing_off_and_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = path.with_name("events.20260101T000000Z-00000001.jsonl")
    plain.write_bytes(lines(events(1, 1)))
    sink = build(path, rotate_bytes=1, compress="zstd")
    await sink._writer.run(sink._file.open)
    sink._stopping.set()
    sink._tidier.start(sink._tidy)
    await sink.close()
    assert rotated(path) == [plain]


async def test_trouble_with_compressing_stops_no_write(
    path: Path, log: SinkLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    async with opened(path, rotate_bytes=1, compress="zstd", log=log) as sink:
        await sink.write(events(1, 1))
        await sink.write(events(2, 2))
        await settle(sink)
    assert [each.read_bytes() for each in rotated(path)] == [lines(events(1, 1))]
    assert {level for level, _, _ in log.entries} == {"warning", "debug"}


async def test_only_the_newest_rotated_files_are_kept(path: Path) -> None:
    async with opened(path, rotate_bytes=1, keep_files=2) as sink:
        for number in range(1, 7):
            await sink.write([make_event(number)])
        await settle(sink)
    assert b"".join(each.read_bytes() for each in rotated(path)) == lines(events(4, 5))


async def test_a_rotation_that_cannot_begin_a_new_file_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path, rotate_bytes=1) as sink:
        await sink.write(events(1, 1))
        lock = fcntl.flock

        def refused(fd: int, how: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", refused)
            for _ in range(2):
                with pytest.raises(TransientError, match="No locks"):
                    await sink.write(events(2, 2))
        assert fcntl.flock is lock
        await sink.write(events(2, 2))
    assert b"".join(each.read_bytes() for each in [*rotated(path), path]) == lines(events(1, 2))
