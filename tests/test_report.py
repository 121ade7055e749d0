"""`kexport status` and `kexport journal`, beside a process that runs and where none does."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from kexport.testing.cluster import FakeCluster
from tests.commandline import CommandLine, read_until


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        for name in "abc":
            cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}})
        yield cluster


def configure(shell: CommandLine, fake: FakeCluster) -> None:
    shell.configure(f"name = 'test'\nurl = '{fake.url}'\n[http]\nlisten = ''")


async def exported(shell: CommandLine) -> None:
    """Run until the three pods are in the sink's file, and stop."""
    process = await shell.start("run")
    file = shell.folder / "events.jsonl"
    async with asyncio.timeout(30):
        while not file.exists() or file.read_bytes().count(b"\n") < 4:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()


async def test_the_status_of_a_process_that_runs(shell: CommandLine, fake: FakeCluster) -> None:
    configure(shell, fake)
    process = await shell.start("run")
    try:
        await read_until(process.stderr, "stream synced")
        code, out, _ = await shell.run("status", "-o", "json")
        document = json.loads(out)
        assert code == 0
        assert (document["running"], document["pid"]) == (True, process.pid)
        code, out, _ = await shell.run("status")
        assert f"process {process.pid}" in out
        assert "pods/*" in out
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def test_the_status_of_a_process_that_does_not_answer(shell: CommandLine, fake: FakeCluster) -> None:
    configure(shell, fake)
    process = await shell.start("run")
    try:
        await read_until(process.stderr, "stream synced")
        code, out, _ = await shell.run("status", "-o", "json")
        document = json.loads(out)
        assert (code, document["running"], document["pid"]) == (0, True, process.pid)
        (shell.folder / "state" / "control.sock").unlink()
        _, out, _ = await shell.run("status", "-o", "json")
        assert json.loads(out)["running"] is None
        _, out, _ = await shell.run("status")
        assert "kexport runs, and does not answer at its control socket" in out
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def test_the_status_where_none_runs_is_the_journals(shell: CommandLine, fake: FakeCluster) -> None:
    configure(shell, fake)
    await exported(shell)
    code, out, _ = await shell.run("status", "-o", "json")
    document = json.loads(out)
    assert (code, document["running"], document["cluster"]) == (0, False, "test")
    assert [stream["key"] for stream in document["streams"]] == ["pods/*"]
    assert document["sinks"] == [{"name": "audit", "lag_events": 0, "dropped": 0}]
    assert document["journal"]["events"] == 4
    _, out, _ = await shell.run("status")
    assert "kexport does not run" in out


async def test_the_journal_is_listed_printed_and_verified(shell: CommandLine, fake: FakeCluster) -> None:
    configure(shell, fake)
    await exported(shell)
    _, out, _ = await shell.run("journal", "ls")
    assert "1-4" in out or "1-3" in out
    _, out, _ = await shell.run("journal", "cat")
    assert out.encode() == (shell.folder / "events.jsonl").read_bytes()
    _, out, _ = await shell.run("journal", "cat", "--events", "2-3")
    assert out.splitlines() == (shell.folder / "events.jsonl").read_text().splitlines()[1:3]
    _, out, err = await shell.run("journal", "cat", "--resource", "nothing")
    assert out == ""
    assert re.fullmatch(r"kexport: no such event; the journal has 1-\d, of \w+\n", err), err
    assert await shell.run("journal", "verify") == (0, "the journal is sound\n", "")


async def test_a_journal_with_a_damaged_chunk_is_told(shell: CommandLine, fake: FakeCluster) -> None:
    configure(shell, fake)
    await exported(shell)
    with closing(sqlite3.connect(shell.folder / "state" / "journal.db")) as journal:
        journal.execute("UPDATE chunks SET data = zeroblob(length(data))")
        journal.execute("UPDATE lanes SET cursor = 99")
        journal.commit()
    code, out, err = await shell.run("journal", "verify")
    assert (code, err) == (1, "")
    assert "events 1 to" in out
    assert "sink audit" in out


@pytest.mark.parametrize("command", [("status",), ("journal", "ls")])
async def test_where_there_is_no_journal(
    shell: CommandLine, fake: FakeCluster, command: tuple[str, ...]
) -> None:
    configure(shell, fake)
    code, _, err = await shell.run(*command)
    assert code == 2
    assert "there is no journal in state" in err


@pytest.mark.parametrize("command", [("status",), ("replay", "--sink", "audit", "--oldest")])
async def test_a_journal_that_may_not_be_looked_at(
    shell: CommandLine, fake: FakeCluster, command: tuple[str, ...]
) -> None:
    configure(shell, fake)
    file = shell.folder / "config.toml"  # a name that is too long is refused to root as well
    file.write_text(file.read_text().replace("'state'", f"'{'x' * 300}'"))
    code, _, err = await shell.run(*command)
    assert code == 2
    assert "cannot be read: File name too long; it is its owner's, and root's" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("span", ["x", "1-y", "1-2-3", "3-1"])
async def test_events_that_cannot_be_meant(shell: CommandLine, fake: FakeCluster, span: str) -> None:
    configure(shell, fake)
    await exported(shell)
    code, _, err = await shell.run("journal", "cat", "--events", span)
    assert code == 2
    assert "names no events" in err
