"""The chart's files, as far as no helm is needed; tests/live/test_chart_render_live.py has the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.testbed import chartfiles, sbom
from tests.testbed.helm import CHART

ROOT = CHART.parents[1]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
PRESETS = sorted([*CHART.glob("values-*.yaml"), *CHART.glob("examples/*-values.yaml")])
GIVEN = [*PRESETS, *sorted(CHART.glob("ci/*-values.yaml"))]
TEMPLATES = {path: path.read_text(encoding="utf-8") for path in CHART.glob("templates/**/*.*")}
GOOD = {
    "resources": [{"resource": "pods"}],
    "sinks": {"a": {"type": "kafka", "bootstrap_servers": ["k:1"], "topic": "t"}},
}


def merged(under: Any, over: Any) -> Any:
    """As helm does: tables are merged, everything else is replaced."""
    if isinstance(under, dict) and isinstance(over, dict):
        return {key: merged(under.get(key), over.get(key, under.get(key))) for key in {**under, **over}}
    return over


def problems(given: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(merged(VALUES, given))]


@pytest.mark.parametrize("name", ["values.schema.json", "README.md"])
def test_what_is_generated_is_up_to_date(name: str):
    stored = (CHART / name).read_text(encoding="utf-8")
    assert stored == chartfiles.GENERATED[name](), "run python -m tests.testbed.chartfiles"


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", GIVEN, ids=lambda path: path.name)
def test_the_presets_and_the_examples_pass_the_schema(path: Path):
    assert problems(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_the_readme_names_every_preset_and_example(path: Path):
    assert path.name in (CHART / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, "config.resources"),
        ({"confg": {}}, "confg"),
        ({"image": {"tagg": "1"}}, "tagg"),
        ({"image": {"digest": "sha256:1"}}, "image.digest"),
        ({"replicas": 2}, "replicas"),
        ({"reload": "cold"}, "reload"),
        ({"persistence": {"size": "big"}}, "persistence.size"),
        ({"networkPolicy": {"apiServerPorts": []}}, "apiServerPorts"),
        ({"terminationGracePeriodSeconds": "45"}, "terminationGracePeriodSeconds"),
        ({"secretFiles": ["UPPER"]}, "secretFiles"),
        ({"config": {"sinks": {"a": {"bootstrap_severs": []}}}}, "bootstrap_severs"),
        ({"config": {"sinks": {"a": {"batch": {"max_events": 0}}}}}, "max_events"),
        ({"config": {"journal": {"max_bytes": 1}}}, "max_bytes"),
    ],
)
def test_what_is_misspelt_or_cannot_be_is_refused_with_its_place(given: dict[str, Any], place: str):
    good = {"config": GOOD} if given else {}
    assert problems(good) == [] or not given
    (problem, *_) = problems(merged(good, given))
    assert place in problem


def test_a_sink_type_of_a_derived_image_passes_the_schema_with_keys_of_its_own():
    sink = {"type": "slack", "url": "${SLACK_URL}", "retry": {"max_seconds": 5}}
    assert problems({"config": {**GOOD, "sinks": {"a": sink}}}) == []
    sink["retry"] = {"max": 5}
    assert problems({"config": {**GOOD, "sinks": {"a": sink}}})


def used() -> set[str]:
    """The values that templates name, but for those below tables that are handed on whole."""
    found = set()
    for text in TEMPLATES.values():
        found |= set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    return {name.rstrip(".") for name in found}


def test_every_value_is_used_and_every_used_one_is_declared():
    declared = {".".join(value.place) for value in chartfiles.values()}
    beyond = {name for name in used() if name not in declared and not name.startswith("config.")}
    assert beyond == set()
    for name in declared:
        around = {".".join(name.split(".")[:count]) for count in range(1, name.count(".") + 2)}
        inside = any(each.startswith(f"{name}.") for each in used())
        assert inside or around & used(), f"{name} is used by no template"


def test_every_top_level_value_is_explained():
    unexplained = [
        value.place for value in chartfiles.values() if len(value.place) == 1 and not value.comment
    ]
    assert unexplained == []
    assert {value.place[0] for value in chartfiles.values()} == VALUES.keys()
    assert {*SCHEMA["properties"]} == {*VALUES, "global"}


def metrics() -> set[str]:
    """As docs/metrics.md has them, with the series of each histogram."""
    rows = re.findall(r"^\| `(kexport_\w+)` \| (\w+)", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {name for name, _ in rows} | {f"{name}_bucket" for name, kind in rows if kind == "histogram"}


@pytest.mark.parametrize("name", ["templates/prometheusrule.yaml", "dashboards/kexport.json"])
def test_alerts_and_dashboard_ask_for_metrics_that_there_are(name: str):
    text = (CHART / name).read_text(encoding="utf-8")
    asked = set(re.findall(r"\bkexport_[a-z_]+", text)) - {"kexport_build_info"}
    assert len(asked) >= 8
    assert asked <= metrics(), asked - metrics()


def test_every_panel_of_the_dashboard_has_a_place_of_its_own():
    panels = json.loads((CHART / "dashboards/kexport.json").read_text(encoding="utf-8"))["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def test_the_chart_and_kexport_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    (version,) = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert chart["appVersion"] == version


def test_the_image_runs_nobody_and_nothing_is_run_in_its_last_stage():
    last = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert "\nRUN" not in last
    assert re.search(r"^USER 65532:65532$", last, re.MULTILINE)
    assert VALUES["podSecurityContext"]["runAsUser"] == 65532


def test_docker_is_given_all_that_the_image_is_made_of():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+)", dockerfile, re.MULTILINE)
        for name in line.split()[:-1]
    }
    allowed = set(re.findall(r"^!(.+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_bill_of_materials_names_everything_once_and_refers_to_what_it_has():
    from importlib.metadata import distributions  # noqa: PLC0415

    document = sbom.document([*distributions()])
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    names = [each["name"] for each in document["components"]]
    assert [each["name"] for each in document["components"] if "licenses" not in each] == []
    assert {"kexport-kafka", "aiohttp", "msgspec"} <= set(names)
    assert len(names) == len(set(names))
    references = {each["bom-ref"] for each in document["components"]}
    references.add(document["metadata"]["component"]["bom-ref"])
    assert {each["ref"] for each in document["dependencies"]} == references
    (core,) = (each for each in document["dependencies"] if each["ref"].startswith("pkg:pypi/kexport@"))
    assert any(each.startswith("pkg:pypi/msgspec@") for each in core["dependsOn"])
    assert all({*each["dependsOn"]} <= references for each in document["dependencies"])
