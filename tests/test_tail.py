import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kexport.tail import line
from kexport.testing.cluster import FakeCluster
from kexport.testing.events import make_event
from tests.commandline import CommandLine, read_until


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


def config_map(name: str, namespace: str = "default", **labels: str) -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


async def test_each_change_is_a_line_until_ctrl_c(shell: CommandLine, cluster: FakeCluster):
    cluster.create(config_map("old"))
    process = await shell.start("tail", "cm", "--url", cluster.url)
    seen = await read_until(process.stdout, " = ")
    cluster.create(config_map("new"))
    cluster.patch("configmaps", "default", "new", {"data": {"a": "b"}})
    cluster.delete("configmaps", "default", "new")
    seen += await read_until(process.stdout, " - ")
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")
    first, synced, added, modified, deleted = (row.split() for row in seen.splitlines())
    assert first[1:] == ["+", "ConfigMap", "default/old", first[4], "snapshot"]
    assert synced[1:3] == ["=", "configmaps/*"]
    assert [row[1:4] for row in (added, modified, deleted)] == [
        ["+", "ConfigMap", "default/new"],
        ["~", "ConfigMap", "default/new"],
        ["-", "ConfigMap", "default/new"],
    ]
    assert not list(shell.folder.glob("kexport-state")), "the journal is in memory"


async def test_since_now_leaves_out_what_is_there(shell: CommandLine, cluster: FakeCluster):
    cluster.create(config_map("old"))
    process = await shell.start("tail", "configmaps", "--url", cluster.url, "--no-snapshot")
    assert len((await read_until(process.stdout, " = ")).splitlines()) == 1
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0


async def test_namespaces_and_selectors_narrow_it(shell: CommandLine, cluster: FakeCluster):
    for namespace in ("shop", "prod-eu", "dev"):
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        cluster.create(config_map("yes", namespace, team="a"))
        cluster.create(config_map("no", namespace, team="b"))
    wanted = ("-n", "shop", "-n", "prod-*", "-l", "team=a", "-o", "json")
    process = await shell.start("tail", "cm,secrets", "--url", cluster.url, *wanted)
    seen = await read_until(process.stdout, '"kind":"Secret"')
    while seen.count("stream.synced") < 2:
        seen += await read_until(process.stdout, "stream.synced")
    process.send_signal(signal.SIGINT)
    await process.communicate()
    events = [json.loads(row) for row in seen.splitlines()]
    assert {event["subject"] for event in events if "objname" in event} == {"shop/yes", "prod-eu/yes"}
    assert {event["specversion"] for event in events} == {"1.0"}


async def test_a_pipe_that_closes_ends_it_at_once_and_quietly(shell: CommandLine, cluster: FakeCluster):
    reading, writing = os.pipe()
    process = await shell.start("tail", "cm", "--url", cluster.url, stdout=writing)
    os.close(writing)
    assert await asyncio.to_thread(os.read, reading, 1)
    os.close(reading)
    _, err = await process.communicate()  # though nothing happens in the cluster any more
    assert (process.returncode, err) == (0, b"")


async def test_a_pipe_that_nobody_empties_does_not_hold_it(shell: CommandLine, cluster: FakeCluster):
    for number in range(300):
        cluster.create(config_map(f"cm-{number}"))
    reading, writing = os.pipe()
    process = await shell.start("tail", "cm", "-o", "json", "--url", cluster.url, stdout=writing)
    os.close(writing)
    assert await asyncio.to_thread(os.read, reading, 1)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    os.close(reading)
    assert process.returncode == 0, err


async def test_an_unknown_resource_is_exit_code_2(shell: CommandLine, cluster: FakeCluster):
    code, out, err = await shell.run("tail", "podz", "--url", cluster.url)
    assert (code, out) == (2, "")
    assert err.startswith("kexport: unknown resource 'podz', did you mean 'pods'?")


async def test_a_selector_that_the_server_refuses_is_exit_code_2(shell: CommandLine, cluster: FakeCluster):
    code, out, err = await shell.run(
        "tail", "pods", "--field-selector", "status.fase=Running", "--url", cluster.url
    )
    assert (code, out) == (2, "")
    assert err.startswith("kexport: selector of pods/*?fields=status.fase=Running: is refused: field label")


async def test_an_unreachable_server_is_exit_code_1(shell: CommandLine):
    code, out, err = await shell.run("tail", "pods", "--url", "http://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("kexport: cannot reach the API server")


async def test_a_forbidden_resource_is_said_and_tried_again(shell: CommandLine, cluster: FakeCluster):
    cluster.deny("*", "pods")
    process = await shell.start("tail", "pods", "--url", cluster.url)
    assert "state=forbidden" in await read_until(process.stderr, "pods is forbidden")
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("style", ["line", "json"])
async def test_nothing_from_the_cluster_acts_on_a_terminal(
    shell: CommandLine, cluster: FakeCluster, style: str
):
    metadata = {"name": "evil", "namespace": "default"}
    message = "\x1b]0;owned\x07 \x9b2J \u202e"
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": metadata,
            "involvedObject": {"namespace": "default"},
            "reason": "Evil",
            "message": message,
        }
    )
    leader, follower = pty.openpty()
    shell.environment |= {"TERM": "xterm", "NO_COLOR": "1"}
    process = await shell.start("tail", "events", "--url", cluster.url, "-o", style, stdout=follower)
    os.close(follower)
    seen = b""
    while b"synced" not in seen and b"= " not in seen:
        seen += await asyncio.to_thread(os.read, leader, 65536)
    process.send_signal(signal.SIGINT)
    await process.communicate()
    os.close(leader)
    text = seen.decode()
    assert "Evil" in text
    assert not set("\x1b\x07\x9b\u202e") & set(text)
    if style == "json":
        first = json.loads(text.splitlines()[0])
        assert first["data"]["object"]["message"] == message, "escaped, and the same to a program"


@pytest.mark.parametrize(
    ("change", "sign", "code"), [("added", "+", 32), ("modified", "~", 33), ("deleted", "-", 31)]
)
def test_signs_are_coloured(change: str, sign: str, code: int):
    event = make_event(1, type=f"io.kexport.object.{change}")
    assert f" \x1b[{code}m{sign}  \x1b[0m ConfigMap shop/config-1 1" in line(event, coloured=True)
    assert f" {sign}   ConfigMap shop/config-1 1" in line(event, coloured=False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"status": {"phase": "Running"}}, "Running"),
        ({"status": {"phase": "\x1b[2J"}}, "[2J"),
        ({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}, "terminating Running"),
        ({"spec": {"replicas": 3}, "status": {"readyReplicas": 2}}, "2/3 ready"),
        ({"spec": {"replicas": 1}}, "0/1 ready"),
        ({"involvedObject": {}, "reason": "Pulled", "message": "m" * 100}, "Pulled: " + "m" * 71 + "…"),
        ({"spec": "a custom resource may do that", "status": [1]}, ""),
    ],
)
def test_a_few_words_tell_states_apart(body: dict[str, object], words: str):
    event = make_event(1, data={"object": body})
    assert line(event, coloured=False).rpartition("shop/config-1 1")[2].strip() == words


def test_what_was_not_seen_live_says_so():
    event = make_event(1, origin="recovered", data={"object": {}})
    assert line(event, coloured=False).endswith("shop/config-1 1 recovered")
    left = make_event(1, type="io.kexport.object.left", data={"object": {}})
    assert line(left, coloured=False).endswith("-   ConfigMap shop/config-1 1 no longer selected")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"from": "7", "reason": "expired", "complete": False, "added": 1, "modified": 2, "deleted": 0},
            "since 7: expired; inferred: 1 added, 2 modified, 0 deleted",
        ),
        ({"from": "7", "reason": "expired", "complete": True}, "since 7: expired; every version recovered"),
        ({"reason": "journal-full", "dropped": 5}, "5 events were dropped: journal-full"),
    ],
)
def test_a_gap_says_what_is_missing(body: dict[str, object], words: str):
    event = make_event(1, type="io.kexport.stream.gap", subject="pods/*", data={"object": body})
    text = line(event, coloured=False)
    assert " gap pods/* 1 " in text
    assert text.endswith(words)


async def test_a_diff_shows_each_field_that_changed_and_who_did_it(shell: CommandLine, cluster: FakeCluster):
    cluster.create(config_map("a") | {"data": {"gone": "x", "text": "one\ntwo\n", "number": "1"}})
    process = await shell.start("tail", "cm", "--url", cluster.url, "--diff")
    await read_until(process.stdout, " = ")
    changed = {"text": "one\n2\n", "number": "2", "e.v-l": "\x1b[2J"}
    cluster.update(config_map("a", x="y") | {"data": changed})
    seen = await read_until(process.stdout, "e.v-l")
    cluster.delete("configmaps", "default", "a")
    seen += await read_until(process.stdout, " -   ")
    process.send_signal(signal.SIGINT)
    await process.communicate()
    head, *rows = seen.splitlines()
    assert " by " in head
    assert {row.strip() for row in rows[:-1]} == {
        '- data.gone: "x"', "~ data.text:", "one", "-two", "+2", '~ data.number: "1" → "2"',
        "+ data['e.v-l']: \"\\u001b[2J\"", '+ metadata.labels: {"x":"y"}',
    }  # fmt: skip
    assert rows[-1].split()[1] == "-"
