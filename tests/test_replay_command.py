"""`kexport replay`, beside a process that runs, after one that was killed, and where none does."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path

import pytest

from kexport.testing.cluster import FakeCluster
from tests.commandline import CommandLine, read_until
from tests.objects import configmap, eventually


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def configure(shell: CommandLine, fake: FakeCluster, sink: str = "") -> None:
    other = "[sinks.other]\ntype = 'probe'\npath = 'other.jsonl'"
    shell.configure(
        f"name = 'test'\nurl = '{fake.url}'\n[http]\nlisten = ''",
        resources="[[resources]]\nresource = 'configmaps'\n",
        sink=f"{sink}\n{other}",
    )


def lines(shell: CommandLine, name: str = "events.jsonl") -> list[bytes]:
    file = shell.folder / name
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []


async def test_a_running_exporter_repeats_to_that_sink_alone(shell: CommandLine) -> None:
    async with FakeCluster() as fake:
        for number in range(30):
            configmap(fake, f"thing-{number:02}")
        configure(shell, fake)
        process = await shell.start("run")
        try:
            await eventually(lambda: len(lines(shell)) == len(lines(shell, "other.jsonl")) == 31)
            code, out, err = await shell.run("replay", "--sink", "audit", "--since", "2h")
            assert (code, err) == (0, "")
            assert out.startswith("the sink audit gets 31 events again, from event 1 on;")
            await eventually(lambda: len(lines(shell)) == 62)
            assert lines(shell)[:31] == lines(shell)[31:]
            assert len(lines(shell, "other.jsonl")) == 31
            code, _, err = await shell.run("replay", "--sink", "audt", "--from", "1")
            assert (code, err) == (2, "kexport: no sink named 'audt', did you mean 'audit'?\n")
            code, _, err = await shell.run("replay", "--sink", "audit", "--from", "99")
            assert (code, err) == (2, "kexport: there is no event 99 yet; the newest is 31\n")
        finally:
            process.send_signal(signal.SIGTERM)
            await process.communicate()


async def test_a_replay_goes_on_after_a_kill_in_the_middle(shell: CommandLine) -> None:
    async with FakeCluster() as fake:
        for number in range(200):
            configmap(fake, f"thing-{number:03}")
        configure(shell, fake)
        process = await shell.start("run")
        await eventually(lambda: len(lines(shell)) == 201)
        process.send_signal(signal.SIGTERM)
        await process.communicate()
        # From here on a replay takes ten seconds: more than the kill needs to come.
        configure(shell, fake, sink="slow_seconds = 0.05\nbatch = { max_events = 10 }")
        process = await shell.start("run")
        await read_until(process.stderr, "exporting")
        assert (await shell.run("replay", "--sink", "audit", "--from", "1")).code == 0
        await eventually(lambda: len(lines(shell)) > 250)
        process.kill()
        await process.communicate()
        before = len(lines(shell))
        assert before < 402, "it was over before it was killed"
        configure(shell, fake)
        process = await shell.start("run")
        try:
            await eventually(
                lambda: lines(shell)[-1:] == lines(shell)[200:201] and len(lines(shell)) > before
            )
        finally:
            process.send_signal(signal.SIGTERM)
            await process.communicate()
        first, again = lines(shell)[:201], lines(shell)[201:]
        assert set(again) == set(first), "the whole of it came again, with the same bytes"
        positions = [first.index(line) for line in again]
        steps = [after - this for this, after in itertools.pairwise(positions)]
        assert [step for step in steps if step != 1 and step > 0] == [], "nothing is left out"
        assert sum(step <= 0 for step in steps) <= 1, "it goes back once, at the restart"
        assert positions[0] == 0


async def test_where_no_kexport_runs_its_journal_is_told(shell: CommandLine) -> None:
    async with FakeCluster() as fake:
        configmap(fake, "one")
        configure(shell, fake)
        for expected in (2, 4):
            process = await shell.start("run")
            await eventually(lambda: len(lines(shell)) == expected)  # noqa: B023  (awaited here)
            process.send_signal(signal.SIGTERM)
            await process.communicate()
            code, out, _ = await shell.run("replay", "--sink", "audit", "--oldest")
            assert code == 0
            assert out.startswith(
                "the sink audit will get, once kexport runs, 2 events again, from event 1 on;"
            )
    assert lines(shell)[:2] == lines(shell)[2:]
    assert len({json.loads(line)["id"] for line in lines(shell)}) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--since", "soon"), "'soon' is no age"), (("--since", "10"), "'10' is no age"),
        (("--from", "0"), "'0' is no number from 1 on"), ((), "say from where"),
        (("--from", "9" * 30), "is no number from 1 on"), (("--from", "²"), "is no number from 1 on"),
        (("--since", "1h", "--from", "3"), "not allowed with argument"),
    ],
)  # fmt: skip
async def test_a_replay_from_nowhere_is_refused(
    shell: CommandLine, arguments: tuple[str, ...], problem: str
) -> None:
    shell.configure("url = 'http://127.0.0.1:1'")
    code, _, err = await shell.run("replay", "--sink", "audit", *arguments)
    assert code == 2
    assert problem in err
