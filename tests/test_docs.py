"""The documents say what is so: configurations load, links lead somewhere, messages are those of the code."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kexport import config, eventschema, plugins, tables
from kexport.arguments import parser
from kexport.figures import FIGURES
from tests import documents
from tests.documents import ROOT, Block
from tests.testbed import docfiles
from tests.testbed.examples import examples

PAGES = documents.pages()
DOCS = ROOT / "docs"
# The guide's own sink is not installed here; tests/test_plugin_guide.py loads this page's blocks.
ELSEWHERE = {"plugins/README.md"}


def uncommented() -> str:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    text = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    return text.replace('rejects_to = "rejects"', 'rejects_to = "audit"')


# -- config.toml -------------------------------------------------------------------------------------------


def test_the_example_configuration_loads_as_it_is() -> None:
    loaded = config.load(ROOT / "config.toml", plugins.load().types)
    assert [entry.resource for entry in loaded.root.resources] == ["deployments.apps", "pods"]
    assert loaded.sinks["changes"].type.name == "file"


def test_the_example_configuration_shows_every_key_and_loads_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every commented-out key is a real one, with a value that is accepted."""
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    monkeypatch.setenv("OTLP_TOKEN", "secret")
    loaded = config.parse(uncommented(), plugins.load().types)
    document = tomllib.loads(uncommented())
    for table in ("cluster", "journal", "http"):
        known = set(type(getattr(loaded.root, table)).__struct_fields__)
        assert set(document[table]) == known
    assert set(document["resources"][1]) == set(tables.ResourceConfig.__struct_fields__)
    assert set(document["routes"][0]) == set(tables.RouteConfig.__struct_fields__)
    assert set(document["transforms"][0]) == set(tables.TransformConfig.__struct_fields__)
    kind = loaded.sinks["changes"].type
    assert set(document["sinks"]["changes"]) == set(config.engine_fields(kind).__struct_fields__)


def test_the_defaults_in_the_example_are_the_defaults() -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    tables_of = {"journal": tables.JournalConfig, "cluster": tables.ClusterConfig, "http": tables.HttpConfig}
    for name, struct in tables_of.items():
        section = text.split(f"[{name}]")[1].split("\n[", 1)[0]
        defaults = struct()
        for key, value in re.findall(r"^# ([a-z_]+) = (.+)$", section, flags=re.MULTILINE):
            if key not in {"name", "kubeconfig", "context", "url"}:
                assert tomllib.loads(f"x = {value}")["x"] == getattr(defaults, key), key


# -- blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", list(documents.blocks("toml")), ids=lambda block: block.page)
def test_every_configuration_in_the_documents_loads(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it names beyond itself (a sink, the environment, a file) is there."""
    document = tomllib.loads(block.text)
    if block.page in ELSEWHERE:
        assert {"project", "sinks"} & document.keys()
        return
    for variable in re.findall(r"\$\{(\w+)\}", block.text):
        monkeypatch.setenv(
            variable, "https://hooks.example.org/x" if variable.endswith("URL") else "whsec_YQ=="
        )
    text = re.sub(r"\$\{file:[^}]+\}", "secret", block.text)
    if "resources" not in document:
        text = f'{text}\n[[resources]]\nresource = "pods"\n'
    named = {sink.get("rejects_to") for sink in document.get("sinks", {}).values()} - {None}
    named |= {name for route in document.get("routes", ()) for name in route["sinks"]}
    for name in (named - document.get("sinks", {}).keys()) or ({"any"} - document.get("sinks", {}).keys()):
        text += f'\n[sinks.{name}]\ntype = "file"\npath = "{name}.jsonl"\n'
    loaded = config.parse(text, plugins.load().types)
    for sink in document.get("sinks", {}):
        assert loaded.sinks[sink].type.config is not None


@pytest.mark.parametrize("block", list(documents.blocks("json")), ids=lambda block: block.page)
def test_every_event_in_the_documents_fits_the_schema(block: Block) -> None:
    document = json.loads(block.text)
    if "specversion" in document:
        jsonschema.validate(document, eventschema.document())
    else:
        assert block.page not in {"README.md", "docs/events.md"}


@pytest.mark.parametrize(("page", "words"), documents.commands(), ids=lambda value: str(value)[:60])
def test_every_command_line_in_the_documents_is_one(page: str, words: list[str]) -> None:
    assert parser().parse_args(words).command == words[0], page


def test_every_command_that_is_named_is_one_and_every_one_is_in_the_readme() -> None:
    known = set(re.findall(r"^    ([\w-]+) ", parser().format_help(), flags=re.MULTILINE))
    used = {
        (documents.name(page), word)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for span in documents.spans(page)
        for word in re.findall(r"^kexport ([a-z][\w-]*)", span)
    }
    assert {each for each in used if each[1] not in known} == set()
    assert {word for page, word in used if page == "README.md"} == known


def test_every_command_in_the_page_about_operating_can_be_given() -> None:
    from kexport.arguments import parser  # noqa: PLC0415

    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ kexport (.+)$", page, flags=re.MULTILINE)
    assert {command.split()[0] for command in commands} >= {"snapshot", "replay", "sinks"}
    for command in commands:
        assert parser().parse_args(command.split()).command == command.split()[0]


def test_the_python_of_the_guide_tells_what_has_been_seen() -> None:
    (block,) = [each for each in documents.blocks("python") if each.page == "docs/streaming-to-kafka.md"]
    names: dict[str, Any] = {}
    exec(compile(block.text, block.page, "exec"), names)
    newest: dict[str, str] = {}
    changes = {event.id: event for _, event in examples() if event.attributes.objname}
    events = [event for event in changes.values() if event.change != "left"]
    assert [event.change for event in events] == ["added", "modified", "deleted"]
    first = [names["take"](event.encode(), newest) for event in events]
    assert [each["id"] for each in first] == [event.id for event in events]
    assert [names["take"](event.encode(), newest) for event in events] == [None] * 3
    news = [event for _, event in examples() if not event.attributes.objname]
    assert all(names["take"](event.encode(), newest)["id"] == event.id for event in news * 2)


# -- links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=documents.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in documents.links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in documents.anchors(target), link


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for link in documents.links(page):
            path = link.partition("#")[0]
            if path and not re.match(r"[a-z]+:", path):
                ahead.append((page.parent / path).resolve())
    left = {page for page in PAGES if page.is_relative_to(DOCS) or page.parent == ROOT} - reached
    assert left == set()


def test_the_picture_is_one_that_stands_alone() -> None:
    text = (DOCS / "path.svg").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|<image|<foreignObject|(?<!xmlns=\")https?:", text)
    assert "<title" in text


# -- what is generated, and what is said -------------------------------------------------------------------


@pytest.mark.parametrize("name", docfiles.GENERATED)
def test_what_is_generated_is_up_to_date(name: str) -> None:
    stored = (DOCS / name).read_text(encoding="utf-8")
    assert stored == docfiles.GENERATED[name](), "run python -m tests.testbed.docfiles"


def test_the_reference_has_every_key_of_every_table() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for name, struct in vars(tables).items():
        if name.endswith("Config"):
            for field in struct.__struct_fields__:
                assert re.search(rf"^\| `([a-z]+\.)?{field}` \|", text, re.MULTILINE), f"{name}.{field}"


def sources() -> str:
    """Every text in the code, an f-string's holes as …; joined ones as they are put together."""
    found = []
    for path in [*ROOT.glob("kexport/*.py"), *ROOT.glob("plugins/kexport-*/kexport_*/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def messages() -> list[str]:
    """The first cells of the tables of troubleshooting.md."""
    rows = re.findall(
        r"^\| `([^`]+)`", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) > 25
    return rows


@pytest.mark.parametrize("message", messages())
def test_every_message_of_the_troubleshooting_is_said(message: str) -> None:
    if message.startswith("kexport_"):
        assert message in {figure.name for figure in FIGURES}
        return
    text = sources()
    parts = [part.strip() for part in message.split("…")]
    assert all(part in text for part in parts if part), message


def test_every_metric_that_is_named_is_one() -> None:
    known = {figure.name for figure in FIGURES} | {f"{figure.name}_total" for figure in FIGURES}
    for page in [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "charts" / "kexport" / "README.md"]:
        named = set(re.findall(r"`(kexport_[a-z_]+)(?:\{[^`]*)?`", page.read_text(encoding="utf-8")))
        assert named <= known | {"kexport_build_info", "kexport_sink_info"}, page.name


def test_the_page_of_comparisons_takes_its_figures_from_one_table() -> None:
    """The figures of others in the README are those of the page, which says how they came to be."""
    page = (DOCS / "comparison.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Beside others")[1].split("\n## ")[0]
    for figure in re.findall(r"[\d,.]+ (?:µs|MB|/s)", section):
        assert figure in page, figure
