"""Child processes and what they cost, as the operating system counts it: all threads, user and system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.bench.stub import Served

TICK = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[2]


class BenchError(Exception):
    """A run gave no figure; the message says why, and ends with what the process said."""


class Cost(NamedTuple):
    """A whole life of a process: CPU seconds, highest memory in MB, bytes that it had written to disk."""

    cpu_seconds: float
    peak_mb: float
    written_bytes: int


class Child:
    """A process with a log; leaves nothing behind however its block ends."""

    def __init__(
        self, command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._log = folder / "log.txt"
        self._folder = folder
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._process: subprocess.Popen[bytes]
        self.started = 0.0

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Poll every 10 ms; raises BenchError when it doesn't come true or the process ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None:
                raise BenchError(f"the process ended before {what}\n{self._tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"not within {seconds:g} s: {what}\n{self._tail()}")
            time.sleep(0.01)

    def wait(self, *, seconds: float) -> Cost:
        """Wait until it ends by itself; its cost.

        The peak is looked at every 10 ms: what `wait4` has counts the benchmark's own memory, too, since
        the child is a copy of the benchmark until it becomes its own program.
        """
        deadline = time.monotonic() + seconds
        peak = 0.0
        while time.monotonic() < deadline:
            peak = max(peak, self._peak_mb())
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                if self._process.returncode:
                    raise BenchError(f"exit code {self._process.returncode}\n{self._tail()}")
                return Cost(usage.ru_utime + usage.ru_stime, peak, 0)
            time.sleep(0.01)
        raise BenchError(f"still running after {seconds:g} s\n{self._tail()}")

    def stop(self, *, seconds: float = 60) -> Cost:
        """SIGTERM, and what its whole life has cost."""
        written, peak = self.written_bytes(), self._peak_mb()
        self._process.send_signal(signal.SIGTERM)
        cost = self.wait(seconds=seconds)
        return cost._replace(peak_mb=max(peak, cost.peak_mb), written_bytes=written)

    def written_bytes(self) -> int:
        """What was sent to the disk on its behalf so far (/proc/PID/io)."""
        text = Path(f"/proc/{self.pid}/io").read_text()
        return int(text.split("\nwrite_bytes: ")[1].split("\n")[0])

    def cpu_seconds(self) -> float:
        """User and system time so far, in ticks of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory_mb(self) -> float:
        """Resident memory now."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    def _peak_mb(self) -> float:
        """Highest resident memory so far; 0 for one that has ended."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) / 1024 if "VmHWM:" in text else 0.0

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


class StubServer:
    """The stub in a process of its own, ready when the block begins."""

    def __init__(
        self,
        *resources: Served,
        bookmark_seconds: float = 10.0,
        watch_list: bool = False,
        moving: bool = False,
    ) -> None:
        self._spec = json.dumps(
            {
                "resources": [each._asdict() for each in resources],
                "bookmark_seconds": bookmark_seconds,
                "watch_list": watch_list,
                "moving": moving,
            }
        )

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.bench.stub", self._spec]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout
        port = self._process.stdout.readline().strip()
        if not port:
            raise BenchError("the stub API server did not start; its error is above")
        self.url = f"http://127.0.0.1:{int(port)}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def state(self) -> dict[str, Any]:
        """See Stub.state."""
        with urllib.request.urlopen(f"{self.url}/bench", timeout=30) as answer:
            return dict(json.load(answer))
