"""What is secret is in no output of any command, whatever goes wrong."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from kexport.credentials import Credentials
from kexport.errors import ConfigError
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply, redirect
from tests.commandline import CommandLine, read_until
from tests.hostile import forms

TOKEN = 'tok/en+"with=odd&parts'
PASSWORD = "p4ss'wo\"rd of the sink"
FROM_FILE = "s3cret-from-a-file"
USER = "user-in-url"
KEY = "-----BEGIN PRIVATE KEY-----\nnot-really-a-key-but-secret\n-----END PRIVATE KEY-----\n"
SECRETS = (TOKEN, PASSWORD, FROM_FILE, USER, "not-really-a-key-but-secret")


def assert_kept(text: str) -> None:
    for secret in SECRETS:
        for form in forms(secret):
            assert form not in text, f"{secret!r} as {form!r}"


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    made = CommandLine(tmp_path)
    made.environment["SINK_PASSWORD"] = PASSWORD
    (tmp_path / "secret").write_text(FROM_FILE + "\n")
    return made


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster(token=TOKEN) as cluster:
        yield cluster


def kubeconfig(folder: Path, server: str, **user: object) -> str:
    """Written to a file; gives the configuration's line that names it."""
    document = {
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "users": [{"name": "a", "user": user or {"token": TOKEN}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(document))
    return f"kubeconfig = '{folder}/kubeconfig'"


def configure(shell: CommandLine, cluster: str, *, mode: str = "choosy") -> None:
    """A sink whose own error says its password; the other secret in a setting that has another type."""
    shell.configure(cluster, sink=f"mode = '{mode}'\npassword = '${{SINK_PASSWORD}} and ${{file:secret}}'")


async def all_said(shell: CommandLine) -> str:
    """What the commands that end by themselves print, at their most talkative."""
    said = ""
    for command in (["check", "--timeout", "3"], ["resources"], ["tail", "pods"]):
        outcome = await shell.run(*command, "--log-level", "debug", *where(command[0], shell))
        said += f"{command} -> {outcome.code}\n{outcome.out}\n{outcome.err}\n"
    return said


def where(command: str, shell: CommandLine) -> list[str]:
    return ["--config", str(shell.folder / "config.toml")] if command in {"resources", "tail"} else []


@pytest.mark.parametrize("trouble", ["refused", "unauthorized", "no TLS", "error", "page", "redirect"])
async def test_no_command_shows_a_secret_whatever_the_server_does(
    shell: CommandLine, fake: FakeCluster, trouble: str
):
    server = fake.url
    if trouble == "refused":
        server = "http://127.0.0.1:1"
    elif trouble == "unauthorized":
        fake.token = "another"
    elif trouble == "no TLS":
        server = fake.url.replace("http:", "https:")
    elif trouble == "error":
        status = {"kind": "Status", "code": 500, "message": f"who is Bearer {TOKEN}? {quote(TOKEN, safe='')}"}
        fake.script(Reply(status=500, body=json.dumps(status).encode()), times=100)
    elif trouble == "page":
        fake.script(Reply(status=502, body=f"<html>{TOKEN}".encode()), times=100)
    else:
        fake.script(redirect(f"http://127.0.0.1:1/?token={quote(TOKEN)}"), times=100)
    configure(shell, kubeconfig(shell.folder, server))
    said = await all_said(shell)
    assert "Traceback" not in said
    assert "${SINK_PASSWORD} and ${file:secret}" in said, "the place that would have told it was reached"
    assert_kept(said)


@pytest.mark.parametrize("trouble", ["bad key", "exec says nonsense", "broken yaml", "no base64"])
async def test_no_command_shows_a_secret_of_an_unusable_kubeconfig(shell: CommandLine, trouble: str):
    encoded = base64.b64encode(KEY.encode()).decode()
    login = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "interactiveMode": "Never"}
    if trouble == "bad key":
        user: dict[str, object] = {"client-certificate-data": encoded, "client-key-data": encoded}
    elif trouble == "exec says nonsense":
        user = {"exec": login | {"args": ["-c", f"echo '{{{TOKEN}'"]}}
    else:
        user = {"token": TOKEN, "client-key-data": KEY} if trouble == "no base64" else {"token": TOKEN}
    line = kubeconfig(shell.folder, "https://127.0.0.1:1", **user)
    if trouble == "broken yaml":
        path = shell.folder / "kubeconfig"
        path.write_text(path.read_text() + f"users:\n  - token: '{FROM_FILE}\n :: [\n")
    configure(shell, line)
    said = await all_said(shell)
    assert "kubeconfig" in said
    assert "Traceback" not in said
    assert_kept(said)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exec sleep 60", "gave no credentials within 3 s"),
        ("exec yes", "it said more than 1048576 bytes"),
        ("yes >&2", "it said more than 1048576 bytes"),
        ("printf '\\377\\376'", "gave no credentials: .*malformed"),
        ("echo '[]'", "gave no credentials: ValidationError"),
        ("echo not-allowed >&2; exit 3", "it ended with code 3: not-allowed; run it by hand"),
    ],
    ids=["hangs", "floods", "floods the other way", "no text", "no credential", "fails"],
)
async def test_an_exec_plugin_that_gives_no_credentials_is_ended_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
):
    if "sleep" in script:
        monkeypatch.setattr("kexport.credentials.LOGIN_SECONDS", 3.0)
    login = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh"}
    kubeconfig(
        tmp_path, "http://127.0.0.1:1", exec=login | {"args": ["-c", f"echo $$ >{tmp_path}/pid; {script}"]}
    )
    with pytest.raises(ConfigError, match=problem):
        await Credentials(ClusterConfig(kubeconfig=str(tmp_path / "kubeconfig"))).load()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_user_and_password_in_an_address_are_shown_nowhere(shell: CommandLine):
    configure(shell, f"url = 'http://{USER}:{FROM_FILE}@127.0.0.1:1'")
    said = await all_said(shell)
    assert "http://127.0.0.1:1" in said
    assert_kept(said)


async def test_a_running_exporter_logs_no_secret_of_a_server_that_repeats_it(
    shell: CommandLine, fake: FakeCluster
):
    configure(shell, kubeconfig(shell.folder, fake.url), mode="well")
    status = {"kind": "Status", "code": 500, "message": f"I know {TOKEN}", "reason": TOKEN}
    line = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
    refusal = Reply(status=500, body=json.dumps(status).encode())
    for fault in (refusal, Reply(body=line), Reply(body=TOKEN.encode() + b"\n")):
        fake.script(fault, path_contains="/pods", verb="watch")
    process = await shell.start("run", "--log-level", "debug")
    said = await read_until(process.stderr, "stream synced")
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    said += err.decode() + out.decode()
    assert said.count("stream interrupted") >= 2
    assert "I know ***" in said
    assert_kept(said)
