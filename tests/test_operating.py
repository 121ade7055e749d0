"""`kexport snapshot` and `kexport sinks`, beside a process that runs and where none does."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kexport.testing.cluster import FakeCluster
from tests.commandline import CommandLine, read_until
from tests.objects import configmap, eventually

HELD = "refuse = 'poison'\nretry = { min_seconds = 60.0, max_seconds = 60.0 }"


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def lines(shell: CommandLine, name: str = "events.jsonl") -> list[dict[str, Any]]:
    file = shell.folder / name
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def names(shell: CommandLine, name: str = "events.jsonl") -> list[str]:
    return [event.get("objname", "") for event in lines(shell, name) if event.get("objname")]


@asynccontextmanager
async def exporting(shell: CommandLine, *objects: str, sink: str = HELD) -> AsyncIterator[FakeCluster]:
    """A process that exports these, in this order, to the sinks audit and other."""
    async with FakeCluster() as fake:
        shell.configure(
            f"name = 'test'\nurl = '{fake.url}'\n[http]\nlisten = ''",
            resources="[[resources]]\nresource = 'configmaps'\n",
            more="shutdown_seconds = 0.5",
            sink=f"{sink}\n[sinks.other]\ntype = 'probe'\npath = 'other.jsonl'",
        )
        process = await shell.start("run")
        try:
            await read_until(process.stderr, "stream synced")
            for name in objects:
                configmap(fake, name)
            await eventually(lambda: names(shell, "other.jsonl") == list(objects))
            yield fake
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                _, err = await process.communicate()
                assert process.returncode == 0, err.decode()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def sinks(shell: CommandLine) -> dict[str, dict[str, Any]]:
    code, out, err = await shell.run("sinks", "ls", "-o", "json")
    assert code == 0, err
    return {each["name"]: each for each in json.loads(out)}


async def held(shell: CommandLine, *, at: str = "poison") -> dict[str, Any]:
    """What the sink audit is held at, once it is."""
    events = {event["id"]: event for event in lines(shell, "other.jsonl")}
    while True:
        found: dict[str, Any] | None = (await sinks(shell))["audit"]["held"]
        if found and events[found["id"]].get("objname") == at:
            return found


async def test_a_held_sink_is_listed_with_the_event_and_its_error(shell: CommandLine) -> None:
    async with exporting(shell, "a", "poison", "b"):
        event = await held(shell)
        code, out, _ = await shell.run("sinks", "ls")
        assert code == 0
        row = next(line for line in out.splitlines() if line.startswith("audit"))
        assert row.split()[:2] == ["audit", "held"]
        assert str(event["position"]) in row.split()
        assert event["id"] in row.split()
        assert row.endswith("too large")
        assert (await sinks(shell))["other"]["held"] is None


async def test_it_is_not_skipped_without_saying_which_event(shell: CommandLine) -> None:
    async with exporting(shell, "a", "poison", "b"):
        event = await held(shell)
        code, _, err = await shell.run("sinks", "skip", "audit")
        assert code == 2
        assert f"if that is the one: kexport sinks skip audit {event['position']}" in err
        code, _, err = await shell.run("sinks", "skip", "audit", str(event["position"] + 1))
        assert code == 2
        assert f"is held at event {event['position']}, {event['id']}, not at" in err
        assert names(shell) == ["a"]


async def test_a_skipped_event_is_named_and_the_rest_is_delivered(shell: CommandLine) -> None:
    async with exporting(shell, "a", "poison", "b"):
        event = await held(shell)
        outcome = await shell.run("sinks", "skip", "audit", event["id"])
        assert outcome == (0, f"skipped: event {event['position']}, {event['id']}\n", "")
        await eventually(lambda: names(shell) == ["a", "b"])
        audit = (await sinks(shell))["audit"]
        assert (audit["skipped"], audit["parked"], audit["held"]) == (1, 0, None)
        code, _, err = await shell.run("sinks", "skip", "audit", event["id"])
        assert (code, err) == (
            1, "kexport: sinks.audit: is held at no event, its state is delivering; nothing was given up\n"
        )  # fmt: skip


async def test_a_parked_event_is_in_the_file_beside_the_journal(shell: CommandLine) -> None:
    async with exporting(shell, "a", "poison", "b"):
        event = await held(shell)
        code, out, _ = await shell.run("sinks", "park", "audit", str(event["position"]))
        assert code == 0
        assert out == f"parked in state/parked.jsonl: event {event['position']}, {event['id']}\n"
        file = shell.folder / "state" / "parked.jsonl"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (kept,) = lines(shell, "state/parked.jsonl")
        assert (kept["id"], kept["rejectedby"], kept["rejectedreason"]) == (event["id"], "audit", "too large")
        assert kept["data"] == next(e for e in lines(shell, "other.jsonl") if e["id"] == event["id"])["data"]
        await eventually(lambda: names(shell) == ["a", "b"])
        assert (await sinks(shell))["audit"]["parked"] == 1


async def test_parked_with_another_sink(shell: CommandLine) -> None:
    async with exporting(shell, "poison", "b"):
        event = await held(shell)
        for to, problem in [("audit", "cannot be the sink that keeps"), ("othr", "did you mean 'other'?")]:
            code, _, err = await shell.run("sinks", "park", "audit", event["id"], "--to", to)
            assert code == 2
            assert problem in err
        code, out, _ = await shell.run("sinks", "park", "audit", event["id"], "--to", "other")
        assert (code, out) == (0, f"parked in sink other: event {event['position']}, {event['id']}\n")
        kept = [each for each in lines(shell, "other.jsonl") if each.get("rejectedby")]
        assert [each["id"] for each in kept] == [event["id"]]
        await eventually(lambda: names(shell) == ["b"])


async def test_a_sink_that_does_not_take_a_parked_event_leaves_it_where_it_is(shell: CommandLine) -> None:
    third = "[sinks.third]\ntype = 'probe'\npath = 'third.jsonl'\nrefuse = 'poison'"
    async with exporting(shell, "poison", sink=f"{HELD}\n{third}"):
        event = await held(shell)
        code, _, err = await shell.run("sinks", "park", "audit", event["id"], "--to", "third")
        assert (code, err) == (
            1, "kexport: sinks.third: cannot store it: too large; nothing was given up\n"
        )  # fmt: skip
        assert (await sinks(shell))["audit"]["held"] == event
        for name in ("audit", "third"):
            at = (await sinks(shell))[name]["held"]["id"]
            assert (await shell.run("sinks", "skip", name, at)).code == 0


async def test_several_are_given_up_only_when_asked_and_only_of_what_is_being_written(
    shell: CommandLine,
) -> None:
    sink = "refuse = 'poison'\nretry = { min_seconds = 60.0, max_seconds = 60.0 }\nbatch = { max_events = 2 }"
    async with exporting(shell, "poison", "b", "c", "d", sink=sink):
        event = await held(shell)
        code, _, err = await shell.run("sinks", "skip", "audit", event["id"], "--count", "9")
        assert code == 2
        assert "--count may be so many at most, and nothing was given up" in err
        assert names(shell) == []
        assert (await shell.run("sinks", "skip", "audit", event["id"])).code == 0
        await eventually(lambda: names(shell) == ["b", "c", "d"])


async def test_a_skip_survives_a_kill_right_behind_it(shell: CommandLine) -> None:
    async with exporting(shell, "a", "poison", "b") as fake:
        event = await held(shell)
        assert (await shell.run("sinks", "skip", "audit", event["id"])).code == 0
        pid = json.loads((await shell.run("status", "-o", "json")).out)["pid"]
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: _gone(pid))
        process = await shell.start("run")
        try:
            configmap(fake, "c")
            await eventually(lambda: names(shell)[-1:] == ["c"])
        finally:
            process.send_signal(signal.SIGTERM)
            await process.communicate()
        assert "poison" not in names(shell)


def _gone(pid: int) -> bool:
    """Dead, whether or not somebody has already asked for how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


async def test_retry_tries_at_once(shell: CommandLine) -> None:
    async with exporting(shell, "poison"):
        await held(shell)
        before = (await sinks(shell))["audit"]["retries"]
        assert await shell.run("sinks", "retry", "audit") == (0, "the sink audit tries again now\n", "")
        while (await sinks(shell))["audit"]["retries"] == before:
            pass
        code, _, err = await shell.run("sinks", "retry", "other")
        assert (code, err) == (1, "kexport: sinks.other: does not wait, its state is delivering\n")
        event = await held(shell)
        assert (await shell.run("sinks", "skip", "audit", event["id"])).code == 0


async def test_snapshot_says_how_many_objects_were_told(shell: CommandLine) -> None:
    async with exporting(shell, "a", "b", sink=""):
        outcome = await shell.run("snapshot", "cm")
        assert outcome == (0, "told 2 objects again: configmaps/*\n", "")
        await eventually(lambda: names(shell) == ["a", "b", "a", "b"])
        code, out, _ = await shell.run("snapshot", "configmaps", "--no-wait")
        assert (code, out) == (0, "asked for: configmaps/*; told as soon as the API server answers\n")
        await eventually(lambda: len(names(shell)) == 6)
        code, _, err = await shell.run("snapshot", "pods")
        assert (code, err) == (2, "kexport: no stream follows pods; see [[resources]]\n")


@pytest.mark.parametrize(
    "command",
    [("snapshot", "pods"), ("sinks", "retry", "audit"), ("sinks", "skip", "audit"),
     ("sinks", "park", "audit", "3"), ("top",)],
)  # fmt: skip
async def test_where_nothing_runs_it_is_said(shell: CommandLine, command: tuple[str, ...]) -> None:
    shell.configure("url = 'http://127.0.0.1:1'")
    code, out, err = await shell.run(*command)
    assert (code, out) == (1, "")
    assert err.startswith("kexport: no kexport runs with the journal in state; start it")


async def test_the_sinks_of_a_journal_that_nobody_holds(shell: CommandLine) -> None:
    async with exporting(shell, "a", sink=""):
        pass
    code, out, _ = await shell.run("sinks", "ls")
    assert code == 0
    assert out.startswith("kexport does not run; this is what its journal tells")
    assert "audit" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(("skip",), "name the sink"), (("skip", "audit", "3", "--to", "other"), "--to goes with park only"),
     (("drop", "audit"), "invalid choice"), (("skip", "audit", "3", "--count", "0"), "no number from 1 on")],
)  # fmt: skip
async def test_what_is_wrongly_asked_is_refused(
    shell: CommandLine, arguments: tuple[str, ...], problem: str
) -> None:
    shell.configure("url = 'http://127.0.0.1:1'")
    code, _, err = await shell.run("sinks", *arguments)
    assert code == 2
    assert problem in err
