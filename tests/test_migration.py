"""`kexport migrate`: what it writes loads, and says what it could not say; nothing is dropped in silence."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kexport import collectorobjects, collectorsinks, eventexporter, eventreceivers, eventrules
from kexport.errors import ConfigError
from kexport.migration import migrate, render, write
from tests.commandline import CommandLine
from tests.migrating import KEE, OTEL, SAMPLES, loaded, translated

# -- what is written loads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", SAMPLES)
def test_what_is_made_of_the_samples_loads(origin: str, monkeypatch: pytest.MonkeyPatch):
    found = migrate(origin, SAMPLES[origin])
    text = render(found, origin, SAMPLES[origin])
    parsed = loaded(text, monkeypatch)
    assert len(parsed.sinks) == len(yaml.safe_load(SAMPLES[origin].read_text())[_SINKS[origin]])
    assert found.notes == len(re.findall(r"^# line \d", text, re.MULTILINE))
    routes = tomllib.loads(text)["routes"]
    assert len(parsed.root.routes) == len(routes)
    assert any("where" in route for route in routes)


_SINKS = {KEE: "receivers", OTEL: "exporters"}


@pytest.mark.parametrize("origin", SAMPLES)
def test_secrets_are_not_copied(origin: str):
    text = translated(origin, SAMPLES[origin].read_text())
    for secret in ("hunter22", "letmein99", "xoxb-1234", "abcdefgh"):
        assert secret not in text


# -- nothing in silence ------------------------------------------------------------------------------------


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value that is no table or list with something in it."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not node or not isinstance(node, dict | list):
        yield path
    for key, each in pairs:
        yield from leaves(each, (*path, key))


def without(document: Any, path: tuple[Any, ...]) -> Any:
    fresh = copy.deepcopy(document)
    place = fresh
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return fresh


def said(origin: str, document: Any) -> str:
    """What is made of it, but for line numbers; or the complaint, which is no silence either."""
    try:
        text = translated(origin, yaml.safe_dump(document, sort_keys=False))
    except ConfigError as error:
        return f"refused: {error}"
    joined = re.sub(r"\n#   ", " ", text)
    return re.sub(r"# line \d+, ", "# ", joined)


def cases() -> Iterator[Any]:
    for origin, sample in SAMPLES.items():
        document = yaml.safe_load(sample.read_text(encoding="utf-8"))
        for path in leaves(document):
            yield pytest.param(origin, path, id=f"{origin}-{'.'.join(map(str, path))}")


@pytest.mark.parametrize(("origin", "path"), list(cases()))
def test_every_value_of_the_input_makes_a_difference_or_is_named(origin: str, path: tuple[Any, ...]):
    """Whatever is taken out of the sample, what is made of it is another text."""
    document = yaml.safe_load(SAMPLES[origin].read_text(encoding="utf-8"))
    assert said(origin, without(document, path)) != said(origin, document)


def test_the_samples_have_every_key_and_every_kind():
    events = SAMPLES[KEE].read_text()
    keys = {*eventexporter._KEYS, *eventrules.RULE, *eventreceivers._MAKERS} - {"throttlePeriod"}
    assert all(re.search(rf"\b{key}:", events) for key in keys)
    objects = SAMPLES[OTEL].read_text()
    keys = {*collectorobjects._OBJECT_KEYS, *collectorobjects._OBJECTS_KEYS, *collectorobjects._EVENTS_KEYS}
    assert all(re.search(rf"\b{key}:", objects) for key in keys)
    kinds = set(collectorsinks._MAKERS) - {"logging", "otlp_grpc", "otlp_http"}
    assert all(re.search(rf"^  {kind}\b", objects, re.MULTILINE) for kind in kinds)


@pytest.mark.parametrize("kind", sorted(eventreceivers._KEYS))
def test_every_kind_of_receiver_gives_a_sink_that_loads(kind: str, monkeypatch: pytest.MonkeyPatch):
    needed = {
        "file": {"path": "a"},
        "webhook": {"endpoint": "https://a.example"},
        "loki": {"url": "http://loki:3100/loki/api/v1/push"},
        "kafka": {"brokers": ["a:1"], "topic": "t"},
    }
    receiver = json.dumps([{"name": "a b", kind: needed.get(kind)}])
    text = translated(KEE, f"route: {{match: [{{receiver: a b}}]}}\nreceivers: {receiver}")
    (sink,) = loaded(text, monkeypatch).sinks.values()
    assert sink.name == "a b"
    kinds = {"slack": "slack", "loki": "otlp", **{each: each for each in ("webhook", "kafka")}}
    assert sink.type.name == kinds.get(kind, "file")
    assert ("kexport has no sink for" in text) == (kind not in {*kinds, "file", "stdout"})


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


async def test_the_command_prints_or_makes_a_file_and_never_writes_over_one(shell: CommandLine):
    sample = str(SAMPLES[KEE])
    code, out, err = await shell.run("migrate", KEE, sample)
    assert (code, err) == (0, "")
    assert out.startswith(f"# Made by kexport migrate {KEE} from events.yaml.\n")
    assert tomllib.loads(out)["cluster"] == {"name": "prod-eu"}
    assert "\n# Conditions (where) are CEL, which needs the extra kexport[cel].\n" in out
    code, told, _ = await shell.run("migrate", KEE, sample, "-o", "made.toml")
    assert code == 0
    assert re.fullmatch(r"made made\.toml; notes on what has no twin: \d+\n", told)
    assert (shell.folder / "made.toml").read_text() == out
    code, _, err = await shell.run("migrate", KEE, sample, "-o", "made.toml")
    assert (code, err) == (
        2,
        "kexport: made.toml is there already and stays as it is: choose another name\n",
    )
    assert (shell.folder / "made.toml").read_text() == out


async def test_the_exit_codes_are_the_documented_ones(shell: CommandLine):
    (shell.folder / "bad.yaml").write_text("logLevel: [\n")
    code, out, err = await shell.run("migrate", OTEL, "bad.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("kexport: bad.yaml: line 2, column 1: is not valid YAML: ")
    assert (await shell.run("migrate", OTEL, "nothing.yaml")).code == 2
    assert (await shell.run("migrate", "fluentd", "bad.yaml")).code == 2
    code, _, err = await shell.run("migrate", OTEL, str(SAMPLES[OTEL]), "-o", "no/such/folder.toml")
    assert code == 1
    assert "cannot write no/such/folder.toml" in err


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        migrate(KEE, tmp_path / "x")
    write("a", tmp_path / "new")
    with pytest.raises(ConfigError, match="is there already"):
        write("b", tmp_path / "new")
    assert (tmp_path / "new").read_text() == "a"
