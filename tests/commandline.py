"""kexport as a child process, with a plugin of the tests installed for it alone."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PROBE = "tests.probe_sinks"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class CommandLine:
    """Runs `python -m kexport` in a folder, where `config.toml` is the default configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL"}},
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join([str(self.site), str(ROOT)]),
            "PYTHONWARNINGS": "error",
            "COLUMNS": "200",
        }
        self.install("probe", PROBE)

    def install(self, name: str, module: str) -> None:
        """Make an entry point, as `pip install` of a plugin does."""
        info = self.site / f"kexport_{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kexport-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[kexport]\n{name} = {module}\n")

    def configure(self, cluster: str, *, more: str = "", sink: str = "", resources: str = "") -> Path:
        """Write config.toml: this cluster, pods, and one probe sink that writes `events.jsonl`."""
        resources = resources or '[[resources]]\nresource = "pods"\n'
        path = self.folder / "config.toml"
        path.write_text(
            f"{more}\n[cluster]\n{cluster}\n[journal]\npath = 'state'\n{resources}\n"
            f"[sinks.audit]\ntype = 'probe'\npath = 'events.jsonl'\n{sink}\n"
        )
        return path

    async def start(self, *arguments: str, stdout: int = PIPE) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kexport",
            *arguments,
            cwd=self.folder,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=PIPE,
        )

    async def run(self, *arguments: str, stdout: int = PIPE) -> Outcome:
        process = await self.start(*arguments, stdout=stdout)
        out, err = await process.communicate()
        assert process.returncode is not None
        return Outcome(process.returncode, (out or b"").decode(), err.decode())


async def read_until(stream: asyncio.StreamReader | None, text: str) -> str:
    """All that comes up to the first line with this text."""
    assert stream is not None
    seen = ""
    while text not in seen:
        line = await stream.readline()
        assert line, f"ended before {text!r}: {seen}"
        seen += line.decode()
    return seen
