"""What `kexport new-plugin` writes works as it is; what it refuses leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from kexport import __version__, config, describe, plugins, scaffold
from kexport.errors import ConfigError
from kexport.testing import FakeCluster, SinkContract, make_context, make_event
from tests.commandline import CommandLine

pytestmark = pytest.mark.timeout(400)
NOTHING = plugins.Plugins({}, ())
NAMES = ["a", "audit-trail", "abcdefghijklmnopqrstuvwx"]  # the shortest, a usual one, the longest


@pytest.fixture(params=NAMES)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return scaffold.make(request.param, tmp_path, NOTHING)


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return scaffold.make("audit-trail", tmp_path, NOTHING)


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(cwd)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def build(project: Path, folder: Path) -> zipfile.ZipFile:
    """The plugin's wheel, by its own build backend."""
    done = run("hatchling", "build", "-t", "wheel", "-d", folder, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def test_it_passes_the_whole_contract(project: Path) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    count = sum(name.startswith("test_") for name in dir(SinkContract))
    assert f"{count} passed in" in done.stdout, "and nothing is skipped"


def test_it_is_well_formed_by_its_own_settings(project: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        done = run("ruff", *command, "--no-cache", ".", cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_well_typed_by_its_own_settings(trail: Path, tmp_path: Path) -> None:
    done = run("mypy", "--cache-dir", tmp_path / "cache", cwd=trail)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_placeholder_is_left_and_every_file_is_there(trail: Path) -> None:
    files = {str(path.relative_to(trail)) for path in trail.rglob("*") if path.is_file()}
    assert files == {
        ".github/workflows/test.yml",
        ".gitignore",
        "CHANGELOG.md",
        "README.md",
        "kexport_audit_trail/__init__.py",
        "kexport_audit_trail/config.py",
        "kexport_audit_trail/py.typed",
        "kexport_audit_trail/sink.py",
        "pyproject.toml",
        "tests/test_audit_trail_contract.py",
    }
    for name in files:
        assert not re.search(r"\{\{\w+\}\}|\.tmpl", (trail / name).read_text(encoding="utf-8")), name


def test_a_folder_that_it_made_can_be_read_like_any_other(trail: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert trail.stat().st_mode == (tmp_path / "other").stat().st_mode


async def test_installed_it_shows_in_plugins_and_its_readme_is_true(trail: Path, tmp_path: Path) -> None:
    shell = CommandLine(tmp_path)
    build(trail, tmp_path / "dist").extractall(shell.site)  # which is what installing a wheel does
    assert (shell.site / "kexport_audit_trail" / "py.typed").exists()
    code, out, err = await shell.run("plugins")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["audit-trail", "kexport-audit-trail", "0.1.0", "1", "kexport_audit_trail", "ok"] in rows
    readme = (trail / "README.md").read_text(encoding="utf-8")
    told = (await shell.run("plugins", "--settings", "audit-trail")).out
    settings = {line.split()[0]: " ".join(line.split()) for line in told.splitlines()}
    table = re.findall(r"^\| `(\w+)` \| `?(\w+)`? \| (.*) \|$", readme, flags=re.MULTILINE)
    assert [name for name, _, _ in table] == ["path", "max_event_bytes"]
    for name, default, description in table:
        shown = "(required)" if default == "required" else default
        assert settings[name].endswith(f"{shown} {description}")
    (block,) = re.findall(r"```toml\n(.*?)```", readme, flags=re.DOTALL)
    async with FakeCluster() as cluster:
        (tmp_path / "config.toml").write_text(f"[cluster]\nurl = '{cluster.url}'\n{block}")
        code, out, err = await shell.run("check")
    assert code == 0, out + err


def test_it_needs_the_kexport_that_wrote_it(trail: Path) -> None:
    project = tomllib.loads((trail / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"kexport>={__version__}" in project["dependencies"]
    assert project["entry-points"]["kexport"] == {"audit-trail": "kexport_audit_trail"}


async def test_its_sink_cuts_a_torn_line_and_no_file_of_somebody_elses(
    trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(trail)
    kind = plugins.load(__import__("kexport_audit_trail")).types["audit-trail"]
    path = tmp_path / "events.jsonl"
    whole, torn = make_event(1).encode() + b"\n", make_event(2).encode()[:100]
    path.write_bytes(whole + torn)
    sink = kind.build(kind.config(path=str(path)), make_context())
    async with asyncio.timeout(30):
        await sink.open()
        assert path.read_bytes() == whole
        await sink.write([make_event(2)])
        assert path.read_bytes() == whole + make_event(2).encode() + b"\n"
        path.write_bytes(b"somebody's only copy")
        with pytest.raises(ConfigError, match="is no file of JSON lines: choose another path"):
            await sink.open()
        await sink.close()
    assert path.read_bytes() == b"somebody's only copy"
    assert "max_event_bytes" in describe.settings(kind)
    assert config.engine_fields(kind).__struct_fields__


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Audit", "lower-case letters, digits"),
        ("audit_trail", "lower-case letters, digits"),
        ("1audit", "lower-case letters, digits"),
        ("audit-", "lower-case letters, digits"),
        ("audit--trail", "lower-case letters, digits"),
        ("../audit", "lower-case letters, digits"),
        ("audit\n", "lower-case letters, digits"),
        ("", "lower-case letters, digits"),
        ("a" * 25, "at most 24"),
        ("class", "a word of Python's"),
        ("kexport-audit", "leave kexport- out"),
        ("file", "sink type 'file' is kexport-file's already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        scaffold.make(name, tmp_path, plugins.load())
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_plugin_that_did_not_load_is_taken_too(tmp_path: Path) -> None:
    broken = plugins.Plugin("x", "Kexport.Broken", "1.0", problem="RuntimeError: no")
    with pytest.raises(ConfigError, match=r"plugin 'x' of Kexport\.Broken is installed already"):
        scaffold.make("broken", tmp_path, plugins.Plugins({}, (broken,)))


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "kexport-a").symlink_to(tmp_path / "nowhere")
    (tmp_path / "kexport-b").mkdir()
    for name in ("a", "b"):
        with pytest.raises(ConfigError, match=f"kexport-{name} is there already and stays as it is"):
            scaffold.make(name, tmp_path, NOTHING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kexport-a", "kexport-b"]
    assert list((tmp_path / "kexport-b").iterdir()) == []


def test_a_directory_that_cannot_be_written_is_refused_and_left_clean(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    for parent in (tmp_path / "missing", tmp_path / "a-file"):
        with pytest.raises(ConfigError, match="choose another --directory"):
            scaffold.make("a", parent, NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


async def test_the_command_says_what_to_do_next(tmp_path: Path) -> None:
    shell = CommandLine(tmp_path)
    code, out, err = await shell.run("new-plugin", "audit-trail")
    assert (code, err) == (0, "")
    steps = ["  cd kexport-audit-trail", "  pip install -e '.[test]'", "  pytest", "  kexport plugins"]
    assert out.splitlines()[-4:] == steps
    assert (tmp_path / "kexport-audit-trail" / "pyproject.toml").exists()
    code, out, err = await shell.run("new-plugin", "audit-trail")
    assert (code, out) == (2, "")
    assert "kexport-audit-trail is there already" in err
    assert (await shell.run("new-plugin", "probe")).err == (
        "kexport: sink type 'probe' is kexport-probe's already: choose another name\n"
    )
