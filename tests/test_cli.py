import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from kexport.arguments import parser
from kexport.testing.cluster import FakeCluster
from tests.commandline import CommandLine, read_until
from tests.objects import eventually

COMMANDS = ["run", "check", "rbac", "demo", "tail", "resources", "plugins", "new-plugin", "migrate", "schema"]


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def pod(name: str) -> dict[str, object]:
    spec = {"containers": [{"name": "main", "image": "app"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def test_the_help_names_every_command_and_the_exit_codes(shell: CommandLine):
    code, out, err = await shell.run("--help")
    assert (code, err) == (0, "")
    for command in COMMANDS:
        assert f"\n    {command} " in out
    assert "2  the configuration (or the command line) must be changed" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args([command, "--help"])
    assert exit_.value.code == 0
    assert f"examples:\n  kexport {command}" in capsys.readouterr().out


def test_the_command_line_alone_imports_nothing_heavy():
    names = "import kexport.cli, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", names], text=True).split()
    heavy = {"aiohttp", "kubernetes", "yaml", "zstandard", "sqlite3", "kexport.engine", "importlib.metadata"}
    assert not heavy & set(loaded)


async def test_version(shell: CommandLine):
    assert (await shell.run("--version")).out == "kexport 0.1.0\n"


async def test_a_wrong_command_line_is_exit_code_2(shell: CommandLine):
    assert (await shell.run("exprot")).code == 2
    assert (await shell.run()).code == 2


def test_log_options_may_stand_before_and_after_the_command():
    before = parser().parse_args(["--log-format", "json", "--log-level", "debug", "run"])
    after = parser().parse_args(["run", "--log-format", "json", "--log-level", "debug"])
    assert before == after
    assert (after.log_format, after.log_level) == ("json", "debug")
    assert parser().parse_args(["run"]).log_format == "text"


async def test_a_missing_configuration_is_one_line_and_exit_code_2(shell: CommandLine):
    code, out, err = await shell.run("run")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == (
        "kexport: config.toml: cannot be read: No such file or directory; name the configuration with -c,"
        " or begin with the README's"
    )


async def test_run_exports_and_one_signal_stops_it_cleanly(shell: CommandLine):
    async with FakeCluster() as cluster:
        cluster.create(pod("web"))
        shell.configure(f"url = '{cluster.url}'")
        process = await shell.start("run")
        await read_until(process.stderr, "stream synced")
        process.send_signal(signal.SIGTERM)
        out, err = await process.communicate()
    assert (process.returncode, out) == (0, b"")
    assert b"stopped" in err
    events = [json.loads(line) for line in (shell.folder / "events.jsonl").read_text().splitlines()]
    assert events[0]["subject"] == "default/web"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(shell: CommandLine, number: signal.Signals):
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'", more="shutdown_seconds = 3600", sink="mode = 'stubborn'")
        process = await shell.start("run")
        await read_until(process.stderr, "stream synced")
        process.send_signal(number)
        await read_until(process.stderr, "stopping")
        process.send_signal(number)
        await process.communicate()
    assert process.returncode == 1


async def test_signals_before_anything_is_open_neither_fail_it_nor_are_lost(shell: CommandLine):
    os.mkfifo(shell.folder / "config.toml")
    process = await shell.start("run")
    # Opened for writing once kexport opens it for reading. When the first byte is gone it waits for more.
    fifo = await asyncio.to_thread(os.open, shell.folder / "config.toml", os.O_WRONLY)
    os.write(fifo, b"#")
    await eventually(lambda: not _unread_bytes(fifo))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    os.close(fifo)
    assert (process.returncode, err) == (0, b"")


def _unread_bytes(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


async def test_a_reload_asked_for_while_it_starts_is_made_up_for(shell: CommandLine):
    async with FakeCluster() as cluster:
        config = shell.configure(f"url = '{cluster.url}'", more="reload_seconds = 0")
        text = config.read_text()
        config.unlink()
        os.mkfifo(config)
        process = await shell.start("run")
        fifo = await asyncio.to_thread(os.open, config, os.O_WRONLY)
        process.send_signal(signal.SIGHUP)
        os.write(fifo, text.encode())
        config.unlink()
        config.write_text(text + "[sinks.late]\ntype = 'probe'\npath = 'late.jsonl'\n")
        os.close(fifo)
        await read_until(process.stderr, "sink started anew sink=late")
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0


async def test_it_stops_while_the_cluster_is_unreachable(shell: CommandLine):
    shell.configure("url = 'http://127.0.0.1:1'")
    process = await shell.start("run")
    await read_until(process.stderr, "API server not available")
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0


async def test_logs_as_json_are_json_on_every_line(shell: CommandLine):
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'")
        process = await shell.start("run", "--log-format", "json")
        seen = await read_until(process.stderr, "stream synced")
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
    entries = [json.loads(line) for line in (seen + rest.decode()).splitlines()]
    assert entries[-1]["message"] == "stopped"


async def test_a_configuration_that_a_sink_refuses_is_exit_code_2_without_its_secret(shell: CommandLine):
    shell.environment["PASSWORD"] = "hunter22"
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'", sink="mode = 'choosy'\npassword = '${PASSWORD}'")
        code, _, err = await shell.run("run")
    assert code == 2
    assert "password ${PASSWORD} is refused; name another" in err.splitlines()[-1]
    assert "hunter22" not in err


async def test_a_broken_plugin_that_is_not_configured_is_a_warning(shell: CommandLine):
    shell.install("broken", "there_is_no_such_module")
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'")
        process = await shell.start("run")
        seen = await read_until(process.stderr, "stream synced")
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert "WARNING a plugin could not be loaded plugin=broken" in seen
    assert process.returncode == 0


async def test_a_journal_in_use_is_exit_code_1(shell: CommandLine):
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'")
        first = await shell.start("run")
        await read_until(first.stderr, "stream synced")
        code, _, err = await shell.run("run")
        first.send_signal(signal.SIGTERM)
        await first.communicate()
    assert code == 1
    assert f"kexport: the journal in state is in use by process {first.pid}" in err


async def test_check_beside_the_kexport_that_runs_is_content(shell: CommandLine):
    async with FakeCluster() as cluster:
        shell.configure(f"url = '{cluster.url}'")
        process = await shell.start("run")
        await read_until(process.stderr, "stream synced")
        code, out, _ = await shell.run("check")
        process.terminate()
        await process.communicate()
    assert code == 0
    assert f"warning  journal: the journal in state is in use by process {process.pid}" in out
    assert "right, if that is the one of this configuration\n" in out


async def test_a_reader_that_left_is_no_error(shell: CommandLine):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code, _, err = await shell.run("plugins", stdout=writing)
    finally:
        os.close(writing)
    assert (code, err) == (0, "")


async def test_a_full_disk_under_standard_output_is_one_line(shell: CommandLine):
    with Path("/dev/full").open("w") as full:
        code, _, err = await shell.run("plugins", stdout=full.fileno())
    assert (code, err) == (1, "kexport: standard output cannot be written: No space left on device\n")


def test_a_closed_standard_output_is_no_bug(shell: CommandLine):
    command = [sys.executable, "-m", "kexport", "plugins"]
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (["statsu"], "did you mean 'status'?"),
        (["sinks", "rety"], "did you mean 'retry'?"),
        (["run", "config.toml"], "the configuration is named with -c"),
        ([], "kexport --help lists them"),
        (["check", "--timeout", "0"], "'0' is no number of seconds above 0"),
    ],
)
def test_a_mistake_on_the_command_line_comes_with_the_way_out(
    words: list[str], way_out: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(words)
    assert exit_.value.code == 2
    assert way_out in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check"])
async def test_a_configured_type_whose_plugin_is_not_allowed_is_said_so(shell: CommandLine, command: str):
    shell.environment["KEXPORT_PLUGINS"] = "kexport-file"
    shell.configure("url = 'http://127.0.0.1:1'")
    code, out, err = await shell.run(command)
    assert code == 2
    assert (
        "sinks.audit.type: sink type 'probe' cannot be used: its plugin kexport-probe is installed but not"
        " allowed: add it to KEXPORT_PLUGINS"
    ) in out + err


async def test_a_configured_type_whose_plugin_is_broken_is_told_why(shell: CommandLine):
    shell.install("broken", "there_is_no_such_module")
    path = shell.configure("url = 'http://127.0.0.1:1'")
    path.write_text(path.read_text().replace("'probe'", "'broken'"))
    code, _, err = await shell.run("run")
    assert code == 2
    assert "its plugin kexport-broken did not load: ModuleNotFoundError" in err.splitlines()[-1]
