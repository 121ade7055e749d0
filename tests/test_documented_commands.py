"""The command lines of the documents, run: in a folder with the README's configuration, on FakeCluster."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kexport.testing.cluster import FakeCluster
from tests import documents
from tests.commandline import CommandLine, read_until
from tests.exporter import toml_of

README = (documents.ROOT / "README.md").read_text(encoding="utf-8")
MIGRATIONS = Path(__file__).parent / "migrations"
# What a line answers, beside the exit code 0: its first words, or JSON (a schema).
ANSWERS = {
    "check": "",
    "rbac": "---",
    "status": "kexport does not run; this is what its journal tells",
    "journal ls": "EVENTS",
    "journal cat": '{"specversion":"1.0"',
    "journal verify": "the journal is sound",
    "plugins": "TYPE",
    "schema": "{",
    "resources": "NAME",
    "migrate": "",
}
# Those of these pages; what runs until it is stopped, or asks a running process, has tests of its own.
PAGES = {"README.md", *(f"docs/{name}.md" for name in (
    "comparison", "configuration", "events", "on-kubernetes", "streaming-to-kafka", "writing-a-sink"
))}  # fmt: skip
LINES = sorted(
    {
        " ".join(words)
        for page, words in documents.commands()
        if page in PAGES and (words[0] in ANSWERS or words[0] == "journal")
    }
)


def deployment(image: str) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "web", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def readme_configuration(url: str) -> str:
    """That of the README, on this API server, and with files for its Kafka."""
    (text,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    document = tomllib.loads(text)
    assert document["sinks"]["audit"]["type"] == "kafka"
    sinks = {name: {"type": "file", "path": f"{name}.jsonl"} for name in document["sinks"]}
    sinks["audit"]["rejects_to"] = document["sinks"]["audit"]["rejects_to"]
    tables = {
        "cluster": {**document["cluster"], "url": url},
        "journal": {"path": "state"},
        "http": {"listen": ""},
        "resources": document["resources"],
    }
    lines = [toml_of(tables)]
    lines += [f"[sinks.{name}]\n{toml_of(each)}" for name, each in sinks.items()]
    return "\n".join(lines)


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as fake:
        fake.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        fake.create(deployment("shop/web:1.4"))
        yield fake


@pytest.fixture
def shell(tmp_path: Path, cluster: FakeCluster) -> CommandLine:
    shell = CommandLine(tmp_path)
    (tmp_path / "config.toml").write_text(readme_configuration(cluster.url))
    shell.environment["KUBECONFIG"] = str(cluster.kubeconfig(tmp_path))
    shutil.copy(MIGRATIONS / "events.yaml", tmp_path / "event-exporter.yaml")
    shutil.copy(MIGRATIONS / "events.yaml", tmp_path / "config.yaml")
    shutil.copy(MIGRATIONS / "collector.yaml", tmp_path / "otelcol.yaml")
    return shell


async def run_until_synced(shell: CommandLine) -> None:
    process = await shell.start("run", "-c", "config.toml")
    seen = ""
    while seen.count("stream synced") < 2:
        seen += await read_until(process.stderr, "stream synced")
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    assert process.returncode == 0, err


async def test_every_command_line_of_the_documents_works(shell: CommandLine):
    await run_until_synced(shell)
    for line in LINES:
        words = line.split()
        if words[0] == "migrate" and "-o" in words:
            words[words.index("-o") + 1] = "made.toml"
        if words[:3] == ["journal", "cat", "-c"] and "--events" in words:
            words[-1] = "1-2"  # the numbers of the example are of another journal
        code, out, err = await shell.run(*words)
        assert code == 0, f"{line}: {out}{err}"
        begins = ANSWERS[" ".join(words[:2]) if words[0] == "journal" else words[0]]
        assert out.startswith(begins), f"{line}: {out}"


def test_the_lines_that_run_are_of_every_command_there_is():
    first = {line.split()[0] for line in LINES}
    assert first == {"check", "rbac", "status", "journal", "plugins", "schema", "resources", "migrate"}


async def test_what_rbac_and_schema_print_is_yaml_and_json(shell: CommandLine):
    out = (await shell.run("rbac", "-c", "config.toml", "--namespace", "kexport")).out
    assert [each["kind"] for each in yaml.safe_load_all(out)] == ["ClusterRole", "ClusterRoleBinding"]
    schema = json.loads((await shell.run("schema")).out)
    jsonschema.validate(tomllib.loads((shell.folder / "config.toml").read_text()), schema)
    stored = (documents.ROOT / "docs" / "event.schema.json").read_text(encoding="utf-8")
    assert (await shell.run("schema", "--event")).out == stored


async def test_a_strangers_first_change_stands_on_the_terminal(shell: CommandLine, cluster: FakeCluster):
    """The README's `kexport tail`, as it is written, and a change by somebody."""
    (line,) = re.findall(r"^kexport (tail .*)$", README, flags=re.MULTILINE)
    process = await shell.start(*line.split())
    seen = await read_until(process.stdout, "shop/web")
    cluster.patch("deployments.apps", "shop", "web", {"spec": {"replicas": 3}})
    seen += await read_until(process.stdout, "replicas")
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0
    assert re.search(r"^.*~.*shop/web", seen, re.MULTILINE), seen
    assert "replicas" in seen


def test_every_make_target_of_the_documents_is_there():
    makefile = (documents.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    for page in documents.pages():
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)) | set(
            re.findall(r"`make ([a-z]+)`", text)
        )
        assert named <= targets, page


@pytest.mark.parametrize("block", list(documents.blocks("")), ids=lambda block: block.page)
def test_python_modules_and_folders_in_blocks_are_there(block: documents.Block):
    for module in re.findall(r"python -m (tests\.[\w.]+)", block.text):
        path = documents.ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for folder in re.findall(r"\./(plugins/[\w/-]+)", block.text):
        assert (documents.ROOT / folder / "pyproject.toml").exists(), folder
    assert sys.version_info >= (3, 11)
