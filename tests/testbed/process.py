"""A server as a child process: started until it really answers, and never left behind.

Each child has a process group of its own, so Ctrl-C in a test run reaches only the test run, and
asks Linux to be killed when the thread that started it ends. That thread lives as long as this
process, so a test run that is killed takes its servers with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.testbed.cache import tail

# Runs as the child before it becomes the server: prctl(PR_SET_PDEATHSIG, SIGKILL), which exec
# keeps; then a look whether the parent died before that. Popen's preexec_fn could do the same but
# isn't safe beside threads.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""

# The death signal follows the thread that forked, not the process: a server that a passing worker
# thread (asyncio.to_thread) started would be killed with that thread.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="testbed-starter")


class ServerError(Exception):
    """A server didn't start or ended too early; the message has the end of its log."""


class Server:
    """The life of one server. A kind of server hands in how it is run and whether it answers.

    `command` is asked at each start and may write the files that the server reads; a failed
    connection in `answers` counts as not yet; `ended` is called when the server is gone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        command: Callable[[], list[str]],
        answers: Callable[[], bool],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log_file = self.folder / f"{name}.log"
        self._command = command
        self._answers = answers
        self._ended = ended
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, max_wait_seconds: float = 180) -> Self:
        """Start, and return when the server answers; keeps ports and data of an earlier start."""
        if self.running:
            raise ServerError(f"{self.name} is already running")
        self._process = _launch(self._command(), folder=self.folder, log_file=self.log_file)
        try:
            self._wait_until_it_answers(max_wait_seconds)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, *, max_wait_seconds: float = 5) -> None:
        """Ask the server to end (SIGTERM), and kill it if it doesn't; fine when it isn't running."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)  # a paused one would never see the other signal
        try:
            process.wait(max_wait_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._ended()

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash does; fine when it isn't running."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        self._ended()

    def pause(self) -> None:
        """Stop the server's clock (SIGSTOP): connections stay open and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def restart(self, *, max_wait_seconds: float = 180) -> None:
        self.stop()
        self.start(max_wait_seconds=max_wait_seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self.name} is not running; {self.log_file} ends with\n{tail(self.log_file)}")
        return self._process

    def _wait_until_it_answers(self, max_wait_seconds: float) -> None:
        deadline = time.monotonic() + max_wait_seconds
        while True:
            self._running()
            try:
                if self._answers():
                    return
            except (OSError, HTTPException):
                pass
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name} doesn't answer after {max_wait_seconds} s; "
                    f"{self.log_file} ends with\n{tail(self.log_file)}"
                )
            time.sleep(0.05)


def _launch(command: list[str], *, folder: Path, log_file: Path) -> subprocess.Popen[bytes]:
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]

    def popen() -> subprocess.Popen[bytes]:
        with log_file.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    return _starter.submit(popen).result()
