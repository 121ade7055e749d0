"""What is on the disk, with which modes, and that no value of a Secret is."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard

from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply
from tests.commandline import CommandLine, read_until
from tests.hostile import forms

VALUE = "the-value-of-a-kubernetes-secret"


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


def secret(name: str, value: str = VALUE) -> dict[str, object]:
    manifest = json.dumps({"stringData": {"password": value}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": manifest},
        },
        "data": {"password": base64.b64encode(value.encode()).decode()},
    }


FRAME = b"\x28\xb5\x2f\xfd"  # how a zstd frame begins


def contents(folder: Path) -> bytes:
    """All bytes below the folder, and what is packed in them."""
    found = b""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            raw = path.read_bytes()
            found += raw
            start = raw.find(FRAME)
            while start >= 0:
                found += unpacked(raw[start : start + (8 << 20)])
                start = raw.find(FRAME, start + 1)
    return found


def unpacked(frame: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    except zstandard.ZstdError:
        return b""  # by chance the same four bytes, or a frame over several pages


def assert_not_on_disk(folder: Path, *, but: bytes) -> None:
    found = contents(folder)
    assert but in found, "what is stored can be seen by this test at all"
    for form in forms(VALUE):
        assert form.encode() not in found


SECRETS_TABLE = '[[resources]]\nresource = "secrets"\n'


async def test_secret_values_are_not_on_disk_after_list_watch_crash_and_recovery(
    shell: CommandLine, fake: FakeCluster
):
    for number in range(20):
        fake.create(secret(f"listed-{number}"))
    shell.configure(f"url = '{fake.url}'", resources=SECRETS_TABLE, sink="mode = 'stubborn'")
    process = await shell.start("run")
    await read_until(process.stderr, "stream synced")
    fake.create(secret("watched"))
    fake.patch("secrets", "default", "listed-1", {"stringData": {"more": VALUE}})
    await stored(shell.folder / "state", b'"objname":"watched"')
    process.kill()
    await process.communicate()
    assert_not_on_disk(shell.folder / "state", but=b'"objname":"listed-1"')
    fake.patch("secrets", "default", "listed-2", {"metadata": {"labels": {"a": "b"}}})
    fake.delete("secrets", "default", "listed-3")
    await fake.restart()
    fake.create(secret("late"))
    process = await shell.start("run")
    await stored(shell.folder / "state", b'"objname":"late"')
    await stored(shell.folder / "state", b'"origin":"recovered"')
    process.kill()
    await process.communicate()
    assert_not_on_disk(shell.folder / "state", but=b'"objname":"late"')


async def stored(folder: Path, text: bytes) -> None:
    async with asyncio.timeout(30):
        while text not in contents(folder):
            await asyncio.sleep(0.05)


async def test_a_listing_that_is_killed_leaves_no_secret_behind(shell: CommandLine, fake: FakeCluster):
    lines = []
    for number in range(12_000):  # what does not pack fills the memory that staging begins in
        metadata = {"name": f"staged-{number}", "uid": "u", "resourceVersion": "5"}
        item = secret("") | {"metadata": metadata | {"labels": {"odd": os.urandom(700).hex()}}}
        item["data"] = {"password": base64.b64encode(VALUE.encode()).decode()}
        lines.append(json.dumps({"type": "ADDED", "object": item}).encode() + b"\n")
    fake.script(Reply(body=lines, then="hang"), verb="watch", path_contains="/secrets")
    shell.configure(f"url = '{fake.url}'", resources=SECRETS_TABLE)
    process = await shell.start("run")
    staging = Path(f"/proc/{process.pid}/fd")
    found = b""
    async with asyncio.timeout(60):
        while b"staged-" not in found:
            await asyncio.sleep(0.05)
            for link in staging.iterdir():
                try:
                    deleted = str(link.readlink())
                    if deleted.startswith(str(shell.folder)) and deleted.endswith("(deleted)"):
                        found += frames(link.read_bytes())
                except OSError:
                    continue  # closed meanwhile
    process.kill()
    await process.communicate()
    for form in forms(VALUE):
        assert form.encode() not in found
        assert form.encode() not in contents(shell.folder / "state")


def frames(staged: bytes) -> bytes:
    """The staging file's frames, each behind its length."""
    found, at = b"", 0
    while at + 4 <= len(staged):
        size = int.from_bytes(staged[at : at + 4], "big")
        found += unpacked(staged[at + 4 : at + 4 + size])
        at += 4 + size
    return found


async def test_files_are_for_their_owner_alone_under_any_umask(shell: CommandLine, fake: FakeCluster):
    fake.create(secret("a"))
    shell.configure(f"url = '{fake.url}'", resources=SECRETS_TABLE)
    before = os.umask(0)
    try:
        process = await shell.start("run")
    finally:
        os.umask(before)
    await read_until(process.stderr, "stream synced")
    state = shell.folder / "state"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state, *state.iterdir())}
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert modes.pop("state") == 0o700
    assert {"journal.db", "journal.db-wal", "redaction.key", "lock"} <= set(modes)
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
