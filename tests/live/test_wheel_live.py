"""What users install: wheels in an environment of their own, with the pinned set, a plugin beside them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kexport.testing import FakeCluster
from tests.commandline import read_until
from tests.live.exporting import file_lines

ROOT = Path(__file__).parents[2]
CHANGES = 20


def run(*command: object, cwd: Path, seconds: float = 300) -> str:
    """What it prints; a failure shows all of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def build(source: Path, folder: Path) -> Path:
    """The wheel that pip makes of it, with the build backend that is installed here."""
    options = ["--no-deps", "--no-build-isolation", "-q", "-w", folder]
    run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=folder)
    (wheel,) = folder.glob(f"{source.name.replace('-', '_') if source != ROOT else 'kexport'}-*.whl")
    return wheel


def needed() -> set[str]:
    """All that kexport and its test kit stand on."""
    found: set[str] = set()
    waiting = [Requirement("kexport[testing]")]
    while waiting:
        each = waiting.pop()
        name = canonicalize_name(each.name)
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            further = Requirement(text)
            extras = ("", *each.extras)
            if not further.marker or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(further)
    return found - {"kexport"}


def pinned(names: set[str]) -> str:
    """Their lines of constraints.txt, hashes included."""
    entries = re.split(r"\n(?=\S)", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    chosen = [entry for entry in entries if canonicalize_name(re.split(r"[=\[; ]", entry)[0]) in names]
    assert len(chosen) >= len(names)
    return "\n".join([*chosen, ""])


def environment(folder: Path, *wheels: Path) -> Path:
    """The folder of programs of a fresh environment with these wheels and what they need."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    pip = [programs / "python", "-m", "pip", "install", "-q", "--no-deps"]
    requirements = folder / "requirements.txt"
    requirements.write_text(pinned(needed()), encoding="utf-8")
    run(*pip, "--require-hashes", "-r", requirements, cwd=folder)
    run(*pip, "--no-index", *wheels, cwd=folder)
    run(programs / "python", "-m", "pip", "check", cwd=folder)
    return programs


def config_map(number: int) -> dict[str, object]:
    metadata = {"name": f"config-{number % 5}", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"number": str(number)}}


def wanted(cluster: FakeCluster) -> set[str]:
    """Make and change objects; the ids of all the events that must come of it."""
    ids = set()
    for number in range(CHANGES):
        change = cluster.create if number < 5 else cluster.update
        metadata = change(config_map(number))["metadata"]
        ids.add(f"{metadata['uid']}/{metadata['resourceVersion']}")
    return ids


def stored(path: Path) -> set[str]:
    return {json.loads(line)["id"] for line in file_lines(path)}


async def export(kexport: Path, folder: Path) -> None:
    """`check`, then `run` with the scaffolded sink while objects change, until all of it is stored."""
    async with FakeCluster() as cluster:
        (folder / "config.toml").write_text(
            f"[cluster]\nname = 'test'\nurl = '{cluster.url}'\n[journal]\npath = 'state'\n"
            "[[resources]]\nresource = 'configmaps'\n"
            "[sinks.trail]\ntype = 'audit-trail'\npath = 'events.jsonl'\n"
        )
        await asyncio.to_thread(run, kexport, "check", cwd=folder)
        process = await asyncio.create_subprocess_exec(
            kexport, "run", cwd=folder, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(120):
                await read_until(process.stderr, "stream synced")
                expected = wanted(cluster)
                while not expected <= stored(folder / "events.jsonl"):
                    await asyncio.sleep(0.05)
                process.terminate()
                _, rest = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, rest.decode()


def test_the_wheels_work_in_an_environment_of_their_own(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    core = build(ROOT, wheels)
    names = set(zipfile.ZipFile(core).namelist())
    templates = {path.name for path in (ROOT / "kexport" / "templates" / "new-plugin").iterdir()}
    assert "kexport/py.typed" in names
    assert templates
    assert {f"kexport/templates/new-plugin/{name}" for name in templates} <= names

    programs = environment(tmp_path / "env", core)
    run(programs / "kexport", "new-plugin", "audit-trail", cwd=tmp_path)
    project = tmp_path / "kexport-audit-trail"
    plugin = build(project, wheels)
    assert "kexport_audit_trail/py.typed" in zipfile.ZipFile(plugin).namelist()
    pip = [programs / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    run(*pip, plugin, cwd=tmp_path)
    (listed,) = json.loads(run(programs / "kexport", "plugins", "-o", "json", cwd=tmp_path))
    assert (listed["type"], listed["version"], listed["status"]) == ("audit-trail", "0.1.0", "ok")
    assert " skipped" not in run(programs / "python", "-m", "pytest", "-q", cwd=project)
    asyncio.run(export(programs / "kexport", tmp_path))
