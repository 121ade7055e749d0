"""The documents say what is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from kexport import config, plugins, tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    uncommented = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    uncommented = uncommented.replace('rejects_to = "rejects"', 'rejects_to = "audit"')
    loaded = config.parse(uncommented, plugins.load().types)
    document = tomllib.loads(uncommented)
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


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL))
def test_the_configurations_in_the_readme_load(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    config.parse(block, plugins.load().types)


def test_every_command_of_the_readme_exists() -> None:
    from kexport.arguments import parser  # noqa: PLC0415

    known = set(re.findall(r"^    ([\w-]+) ", parser().format_help(), flags=re.MULTILINE))
    blocks = "\n".join(re.findall(r"```\n(.*?)```", README, flags=re.DOTALL))
    used = {
        *re.findall(r"^kexport ([a-z-]+)", blocks, flags=re.MULTILINE),
        *re.findall(r"`kexport ([\w-]+)", README),
    }
    assert used
    assert used <= known, used - known


def test_every_link_inside_the_repository_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/**/*.md")]:
        if ".venv" in page.parts:
            continue
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
