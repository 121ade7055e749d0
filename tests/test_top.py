"""`kexport top` on a terminal: what it shows as things change, and how it leaves the terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kexport.testing.cluster import FakeCluster
from tests.commandline import CommandLine, read_until
from tests.objects import configmap, eventually

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """A pseudo terminal, and what was written to it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.text = ""
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def _read(self) -> None:
        try:
            self.text += os.read(self._ours, 1 << 16).decode(errors="replace")
        except OSError:
            asyncio.get_running_loop().remove_reader(self._ours)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def press(self, key: str) -> None:
        self.text = ""
        os.write(self._ours, key.encode())

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.theirs)

    async def shows(self, text: str) -> None:
        try:
            await eventually(lambda: text in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text))
        except TimeoutError:
            raise AssertionError(f"no {text!r} in {self.text[-3000:]!r}") from None

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    made = Terminal()
    made.resize(80, 24)
    yield made
    made.close()


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    shell = CommandLine(tmp_path)
    shell.environment["TERM"] = "xterm"
    del shell.environment["COLUMNS"]
    return shell


def configure(shell: CommandLine, fake: FakeCluster) -> None:
    shell.configure(
        f"name = 'prod'\nurl = '{fake.url}'\n[http]\nlisten = ''",
        resources="[[resources]]\nresource = 'configmaps'\n",
    )


async def start_top(shell: CommandLine, terminal: Terminal) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kexport", "top", cwd=shell.folder, env=shell.environment,
        stdin=terminal.theirs, stdout=terminal.theirs, stderr=terminal.theirs, start_new_session=True,
    )  # fmt: skip


async def test_it_shows_a_running_exporter_waits_while_it_is_away_and_leaves_the_terminal_as_it_was(
    shell: CommandLine, terminal: Terminal
) -> None:
    async with FakeCluster() as fake:
        configmap(fake, "one")
        configure(shell, fake)
        modes = terminal.modes
        exporter = await shell.start("run")
        await read_until(exporter.stderr, "stream synced")
        top = await start_top(shell, terminal)
        try:
            await terminal.shows("configmaps/*")
            assert ENTER in terminal.text
            configmap(fake, "two")
            await terminal.shows("added    configmaps default/two")
            terminal.press("p")
            await terminal.shows("paused")
            terminal.press("p")
            await terminal.shows("process")
            exporter.send_signal(signal.SIGTERM)
            await exporter.communicate()
            await terminal.shows("kexport does not run; waiting for it to come back")
            exporter = await shell.start("run")
            await read_until(exporter.stderr, "exporting")
            await terminal.shows(f"process {exporter.pid}")
            terminal.text = ""
            terminal.resize(150, 40)
            await terminal.shows("ERROR")
            terminal.press("q")
            async with asyncio.timeout(30):
                assert await top.wait() == 0
            await eventually(lambda: LEAVE in terminal.text)
            assert terminal.modes == modes
        finally:
            for process in (top, exporter):
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def test_it_waits_for_a_process_that_is_still_to_start_and_ctrl_c_ends_it(
    shell: CommandLine, terminal: Terminal
) -> None:
    shell.configure("url = 'http://127.0.0.1:1'")
    top = await start_top(shell, terminal)
    try:
        await terminal.shows("no kexport runs with the journal in state")
        top.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await top.wait() == 0
        await eventually(lambda: LEAVE in terminal.text)
    finally:
        if top.returncode is None:
            top.kill()
            await top.wait()


async def test_without_a_terminal_it_prints_one_picture(shell: CommandLine) -> None:
    async with FakeCluster() as fake:
        configure(shell, fake)
        exporter = await shell.start("run")
        try:
            await read_until(exporter.stderr, "stream synced")
            code, out, err = await shell.run("top")
            assert (code, err) == (0, "")
            assert "\x1b" not in out
            assert f"process {exporter.pid}" in out
            assert "configmaps/*" in out
        finally:
            exporter.send_signal(signal.SIGTERM)
            await exporter.communicate()
