"""The file sink against real files: what is on the disk, and what is refused."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from pathlib import Path
from typing import Any

import kexport_file
import msgspec
import pytest
from kexport_file.config import FileConfig

from kexport import ConfigError, TransientError
from kexport.testing import make_event

from .file_arrangement import build, context, events, lines, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


async def test_every_event_is_a_line_when_write_returns(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(events(1, 5))
        assert path.read_bytes() == lines(events(1, 5))
        await sink.write(events(6, 7))
        assert path.read_bytes() == lines(events(1, 7))


@pytest.mark.parametrize("fsync", [True, False])
async def test_a_batch_is_one_write_and_one_fsync(
    path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    calls: list[str] = []
    write, sync = os.write, os.fdatasync

    def counted_write(fd: int, data: memoryview) -> int:
        calls.append("write")
        return write(fd, data)

    def counted_sync(fd: int) -> None:
        calls.append("fsync")
        sync(fd)

    async with opened(path, fsync=fsync) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", counted_write)
            patch.setattr(os, "fdatasync", counted_sync)
            await sink.write(events(1, 100))
    assert calls == (["write", "fsync"] if fsync else ["write"])


async def test_a_file_is_continued_after_a_restart(path: Path) -> None:
    for number in (1, 2, 3):
        async with opened(path) as sink:
            await sink.write([make_event(number)])
    assert path.read_bytes() == lines(events(1, 3))


async def test_short_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    async with opened(path) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, data: write(fd, data[:100]))
            await sink.write(events(1, 3))
    assert path.read_bytes() == lines(events(1, 3))


async def test_folders_are_made_and_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with opened(Path("~/a/b/events.jsonl")) as sink:
        await sink.write(events(1, 1))
    assert (tmp_path / "a/b/events.jsonl").read_bytes() == lines(events(1, 1))


@pytest.mark.parametrize("gone", ["renamed", "deleted", "replaced"])
async def test_a_file_that_somebody_took_away_is_begun_anew(path: Path, gone: str) -> None:
    aside = path.with_name("aside.jsonl")
    async with opened(path) as sink:
        await sink.write(events(1, 2))
        path.rename(aside)
        if gone == "deleted":
            aside.unlink()
        if gone == "replaced":
            path.write_bytes(lines(events(3, 3)))
        await sink.write(events(4, 5))
        assert path.read_bytes() == lines(events(3 if gone == "replaced" else 4, 5))
        if gone != "deleted":
            assert aside.read_bytes() == lines(events(1, 2))


async def test_a_file_truncated_by_somebody_is_continued(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(events(1, 2))
        os.truncate(path, 0)
        await sink.write(events(3, 4))
        assert path.read_bytes() == lines(events(3, 4))


async def test_a_second_writer_is_refused_and_changes_nothing(path: Path) -> None:
    temporary = path.with_name("events.20260101T000000Z-00000001.jsonl.gz.tmp")
    temporary.touch()
    async with opened(path, rotate_bytes=1) as sink:
        await sink.write(events(1, 1))
        while temporary.exists():  # the first one tidies up beside its writes
            await asyncio.sleep(0.001)
        temporary.touch()
        other = build(path, rotate_bytes=1)
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            await other.open()
        await other.close()
        assert temporary.exists()
    async with opened(path):
        assert path.read_bytes() == lines(events(1, 1))


async def test_an_open_sink_may_be_opened_again(path: Path) -> None:
    async with opened(path) as sink:
        await sink.open()
        await sink.write(events(1, 1))
    assert path.read_bytes() == lines(events(1, 1))


async def test_a_directory_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Is a directory.*choose"):
        async with opened(tmp_path):
            pass


async def test_a_file_in_the_way_of_a_folder_is_refused(path: Path) -> None:
    path.touch()
    with pytest.raises(ConfigError, match=r"Not a directory|File exists"):
        async with opened(path / "events.jsonl"):
            pass


async def test_a_missing_permission_is_refused_with_the_way_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")  # root, who may run this, is denied nothing

    sink = build(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        with pytest.raises(ConfigError, match=f"let user {os.getuid()} write there"):
            await sink.open()
    await sink.close()


async def test_other_trouble_at_open_is_transient_and_open_may_be_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    sink = build(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", broken)
        with pytest.raises(TransientError, match="Input/output error"):
            await sink.open()
    await sink.open()
    await sink.write(events(1, 1))
    await sink.close()
    await sink.close()
    assert path.read_bytes() == lines(events(1, 1))


@pytest.mark.parametrize(
    "settings",
    [
        {"path": "-", "rotate_bytes": 1},
        {"path": "events.jsonl", "compress": "zstd"},
        {"path": "events.jsonl", "keep_files": 3},
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"sinks\.audit: "):
        kexport_file.build(FileConfig(**settings), context())


def test_unknown_settings_are_refused_and_the_readme_describes_each() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": "x", "pth": "y"}, FileConfig)
    (schema,) = msgspec.json.schema(FileConfig)["$defs"].values()
    readme = Path(__file__).parent.with_name("README.md").read_text()
    for name, each in schema["properties"].items():
        assert f"| `{name}` |" in readme
        assert each["description"] in readme


def test_the_plugin_registers_its_sink_type_and_building_does_no_io(tmp_path: Path) -> None:
    (kind,) = kexport_file.kexport_sinks()
    assert kind.name == "file"
    kind.build(FileConfig(path=str(tmp_path / "no" / "events.jsonl")), context())
    assert list(tmp_path.iterdir()) == []
