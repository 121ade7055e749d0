"""The kit for plugin authors: its fixtures in a pytest that finds them by entry point, and its log."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kexport import ConfigError, Sink, SinkConfig, SinkType, TransientError
from kexport.change import Resource, StreamKey
from kexport.journal import Journal
from kexport.testing import Exporting, FakeCluster, SinkLog, make_context
from kexport.testing.exporting import toml_of
from tests.objects import eventually

pytestmark = pytest.mark.timeout(400)
ENTRY = "[pytest11]\nkexport = kexport.testing.pytest_plugin\n"
SINK = """
import json
from kexport import ConfigError, Sink, SinkConfig, SinkType
from kexport.testing import make_context, make_event


class Config(SinkConfig, frozen=True):
    path: str


class LinesSink(Sink):
    def __init__(self, config, context):
        self.path, self.log = config.path, context.log

    async def write(self, events):
        with open(self.path, "ab") as file:
            file.writelines(event.encode() + b"\\n" for event in events)
        self.log.info("written", events=len(events))


lines = SinkType("lines", Config, LinesSink)
"""
TEST = """
import json
from sink import Config, LinesSink, lines
from kexport.testing import make_context, make_event
{marked}

def config_map(name):
    return {{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": name, "namespace": "default"}}}}


async def test_the_log(tmp_path, sink_log):
    sink = LinesSink(Config(path=str(tmp_path / "x")), make_context(log=sink_log))
    await sink.write([make_event(1)])
    assert sink_log.entries == [("info", "written", {{"events": 1}})]
    assert sink_log.messages == ["written"] and sink_log.text == "info written events=1"


async def test_the_engine(tmp_path, fake_cluster, exported):
    path = tmp_path / "lines"
    fake_cluster.create(config_map("a"))
    async with exported(lines, {{"path": str(path)}}) as export:
        await export.written(2)
        fake_cluster.delete("configmaps", "default", "a")
    assert path.read_bytes() == b"".join(event.encode() + b"\\n" for event in export.events)
    assert [event.change for event in export.events] == ["added", "synced", "deleted"]
    async with exported(lines, {{"path": str(path)}}) as again:
        fake_cluster.create(config_map("b"))
    assert [event.subject for event in again.events] == ["default/b"]
"""


class NoSettings(SinkConfig, frozen=True):
    """There are none."""


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A plugin's folder, and the metadata by which pytest finds the fixtures."""
    info = tmp_path / "kexport_kit-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kexport-kit\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(ENTRY)
    (tmp_path / "sink.py").write_text(SINK)
    return tmp_path


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_the_fixtures_work_in_a_plugins_own_tests(project: Path, mode: str) -> None:
    marked = "import pytest\npytestmark = pytest.mark.asyncio\n" if mode == "strict" else ""
    (project / "test_sink.py").write_text(TEST.format(marked=marked))
    done = run(
        "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-c", "/dev/null",
        f"--rootdir={project}", "-o", f"asyncio_mode={mode}",
        "-o", "asyncio_default_fixture_loop_scope=function", "test_sink.py", cwd=project,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_fixtures_are_explained_by_pytest_itself(project: Path) -> None:
    done = run(
        "-m", "pytest", "--fixtures", "-p", "no:cacheprovider", "-c", "/dev/null",
        f"--rootdir={project}", cwd=project,
    )  # fmt: skip
    for name in ("sink_log", "fake_cluster", "exported"):
        about = done.stdout.split(f"\n{name}")[1].split("\n\n")[0]
        assert "pytest_plugin.py" in about
        assert "no docstring" not in about


def test_a_start_of_pytest_brings_no_server_and_no_engine_along(tmp_path: Path) -> None:
    heavy = ("aiohttp", "kubernetes", "kexport.engine")
    done = run("-c", "import sys, kexport.testing.pytest_plugin; print(*sys.modules)", cwd=tmp_path)
    assert "kexport.testing.pytest_plugin" in done.stdout.split()
    assert not set(heavy) & set(done.stdout.split())


def test_without_pytest_asyncio_the_other_fixtures_are_there(tmp_path: Path) -> None:
    code = (
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: name != 'pytest_asyncio' and find(name, *more)\n"
        "import kexport.testing.pytest_plugin as plugin\n"
        "print(hasattr(plugin, 'sink_log'), hasattr(plugin, 'exported'))\n"
    )
    assert run("-c", code, cwd=tmp_path).stdout.split() == ["True", "False"]


# -- the log ----------------------------------------------------------------------------------------------


def test_a_log_remembers_levels_and_fields_also_of_bound_logs(caplog: pytest.LogCaptureFixture) -> None:
    log = SinkLog()
    context = make_context("lake", log=log)
    context.log.debug("asked", key="a")
    context.log.bind(broker="b1").warning("went away", code=3)
    context.log.exception("broke", ValueError("no"))  # noqa: LOG004, PLE1205  (kexport's own log)
    assert [(each.level, each.message, each.fields) for each in log.entries] == [
        ("debug", "asked", {"key": "a"}),
        ("warning", "went away", {"broker": "b1", "code": 3}),
        ("error", "broke", {"error": "ValueError: no"}),
    ]
    assert log.messages == ["asked", "went away", "broke"]
    assert log.text.splitlines()[1] == "warning went away broker=b1 code=3"
    assert [record.getMessage() for record in caplog.records] == ["went away", "broke"]


# -- the engine -------------------------------------------------------------------------------------------


@pytest.fixture
def exported(fake: FakeCluster, tmp_path: Path) -> Exporting:
    return Exporting(fake, tmp_path / "exported")


@pytest.fixture
async def fake() -> Any:
    async with FakeCluster() as cluster:
        yield cluster


def sink_type(write: Any) -> SinkType[NoSettings]:
    class Given(Sink):
        def __init__(self, _config: NoSettings, _context: Any) -> None:
            pass

        async def write(self, events: Any) -> None:
            await write(events)

    return SinkType("given", NoSettings, Given)


async def test_a_sink_that_never_takes_anything_fails_the_block(exported: Exporting) -> None:
    async def never(_events: Any) -> None:
        raise TransientError("the store is away")

    with pytest.raises(AssertionError, match=r"0 of 1 events are written: .*the store is away"):
        async with exported(sink_type(never), {}, seconds=10):
            pass


async def test_waiting_for_more_than_there_is_fails_with_what_there_is(exported: Exporting) -> None:
    async def take(_events: Any) -> None:
        pass

    with pytest.raises(AssertionError, match=r"1 of 2 events are written: configmaps/\* is watching"):
        async with exported(sink_type(take), {}, seconds=10) as export:
            await export.written(2)


async def test_a_block_waits_for_streams_that_have_not_begun_yet(
    fake: FakeCluster, exported: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slow between the first stream and the second, until the first has read everything."""
    begin = Journal.serve

    async def serve(journal: Journal, key: StreamKey, resource: Resource) -> None:
        if key.startswith("secrets"):
            await eventually(lambda: any(event.change == "synced" for event in export.events))
            await asyncio.sleep(0.3)  # for a block that would end here
        await begin(journal, key, resource)

    async def take(_events: Any) -> None:
        pass

    monkeypatch.setattr(Journal, "serve", serve)
    fake.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late"}})
    async with exported(sink_type(take), {}, resources=["configmaps", "secrets"]) as export:
        pass
    assert [event.subject for event in export.events if event.change == "added"] == ["default/late"]


async def test_an_error_in_the_block_is_told_at_once(exported: Exporting) -> None:
    """Not after the time that a clean stop gives to a sink that hangs."""
    called = asyncio.Event()

    async def hang(_events: Any) -> None:
        called.set()
        await asyncio.Event().wait()

    async def block() -> None:
        async with exported(sink_type(hang), {}, seconds=100):
            await called.wait()
            raise ZeroDivisionError

    async with asyncio.timeout(30):
        with pytest.raises(ZeroDivisionError):
            await block()


async def test_settings_that_are_wrong_are_refused_as_in_a_file(exported: Exporting) -> None:
    async def take(_events: Any) -> None:
        pass

    with pytest.raises(ConfigError, match=r"sinks\.given: unknown key 'colour'"):
        async with exported(sink_type(take), {"colour": "red"}):
            pass


async def test_only_the_resources_that_are_asked_for_are_exported(
    exported: Exporting, fake: FakeCluster
) -> None:
    async def take(_events: Any) -> None:
        pass

    metadata = {"name": "a", "namespace": "default"}
    fake.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    fake.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    table = {"resource": "configmaps", "namespaces": ["kube-system"]}
    async with exported(sink_type(take), {}, resources=["secrets", table]) as export:
        pass
    assert [event.subject for event in export.events if event.change == "added"] == ["default/a"]


def test_any_settings_table_can_be_written_as_toml() -> None:
    document = {
        "number": 1.5,
        "text": {"a": 'x"\\', "headers": {"x.y z": "ü"}, "list": [1, True]},
        "tables": [{"a": 1}, {"a": 2}],
    }
    assert tomllib.loads(toml_of(document)) == document
