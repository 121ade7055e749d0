"""The plugin author's guide is true: its sink passes the contract, is found, and exports."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kexport
from kexport import config, plugins
from kexport.testing import FakeCluster, SinkContract
from tests.exporter import Exporter, Memory

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
SETTINGS = ["-q", "-W", "error", "-p", "no:cacheprovider"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The four files that the guide shows, and the metadata that installing them would leave."""
    package = tmp_path / "kexport_folder"
    (tmp_path / "tests").mkdir()
    package.mkdir()
    sink, test, _batch, fixtures = blocks("python")
    (package / "__init__.py").write_text(sink)
    (package / "py.typed").touch()
    (tmp_path / "tests" / "test_folder_engine.py").write_text(fixtures)
    (tmp_path / "tests" / "test_folder_contract.py").write_text(test)
    (tmp_path / "pyproject.toml").write_text(blocks("toml")[0])
    points = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]["kexport"]
    info = tmp_path / "kexport_folder-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kexport-folder\nVersion: 0.1.0\n")
    lines = [f"{name} = {module}" for name, module in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[kexport]", *lines, ""]))
    return tmp_path


@pytest.fixture
def installed(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(project)
    monkeypatch.delitem(sys.modules, "kexport_folder", raising=False)
    return project


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_the_sink_of_the_guide_passes_the_contract(project: Path) -> None:
    """In a pytest with the guide's own settings; only the event that no folder refuses is left out."""
    done = run("pytest", *SETTINGS, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    count = sum(name.startswith("test_") for name in dir(SinkContract))
    assert f"{count} passed, 1 skipped" in done.stdout  # one more is the test with the engine


def test_the_sink_of_the_guide_is_well_typed(project: Path) -> None:
    done = run("mypy", "--strict", "--cache-dir", project / "cache", "kexport_folder", "tests", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sink_of_the_guide_is_found_by_its_entry_point(installed: Path) -> None:
    found = {plugin.distribution: plugin for plugin in plugins.load().found}["kexport-folder"]
    assert (found.name, found.version, found.problem) == ("folder", "0.1.0", "")
    assert [kind.name for kind in found.sinks] == ["folder"]


def test_the_configuration_of_the_guide_loads(installed: Path) -> None:
    loaded = config.parse(blocks("toml")[1], plugins.load().types)
    assert loaded.sinks["archive"].type.name == "folder"


async def test_the_sink_of_the_guide_is_used_by_the_engine(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stored"
    async with FakeCluster() as cluster:
        cluster.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
        )
        text = f"""
            [cluster]
            name = "test"
            url = "{cluster.url}"
            [journal]
            path = "{tmp_path / "state"}"
            [[resources]]
            resource = "configmaps"
            [sinks.archive]
            type = "folder"
            path = "{folder}"
            [sinks.memory]
            type = "memory"
        """
        async with Exporter(text, Memory(), folder=plugins.load().types["folder"]) as exporter:
            await exporter.synced()
    stored = {path.read_bytes() for path in folder.glob("*.json")}
    assert stored == {event.encode() for event in exporter.events}


def test_the_last_block_gives_the_usual_batch(installed: Path) -> None:
    names: dict[str, kexport.SinkType[kexport.SinkConfig]] = {}
    exec(compile(blocks("python")[2], "guide", "exec"), names)
    assert names["folder_sink"].batch.max_events == 100


def test_the_guide_names_every_test_of_the_contract_beside_its_rule() -> None:
    named: dict[str, str] = {}
    for rule, cells in re.findall(r"^\| S(\d+) \|.*\| (.*) \|$", GUIDE, flags=re.MULTILINE):
        named |= dict.fromkeys(re.findall(r"`(test_\w+)`", cells), rule)
    tests = [
        name for name, _ in inspect.getmembers(SinkContract, inspect.isfunction) if name.startswith("test_")
    ]
    assert named == {name: name.split("_")[1].removeprefix("s") for name in tests}
    assert set(named.values()) == {str(number) for number in range(1, 11)}


def test_the_guide_names_every_public_name_and_what_a_test_may_give() -> None:
    assert all(f"`{name}`" in GUIDE for name in kexport.__all__)
    given = ["outage", "unacceptable", "records", "with_secrets", "event"]
    assert all(f"| `{name}(" in GUIDE and hasattr(SinkContract, name) for name in given)
    for name in ("patience_seconds", "longest_pause_seconds"):
        assert f"`{name}` ({getattr(SinkContract, name):g})" in GUIDE
    assert all(f"`{name}`" in GUIDE for name in ("outage_moments", "cancellations"))
