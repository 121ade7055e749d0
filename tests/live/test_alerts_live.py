"""The chart's alerts on recorded metrics: each fires in the fault that it is for, in no other, nor for ever.

The faults are real, done to an engine on FakeCluster whose /metrics are scraped; tests/live/recording.py says
how seconds become minutes. The rules are what helm makes of the chart, and promtool evaluates them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.alert_faults import SCENARIOS
from tests.live.recording import Recording
from tests.testbed.helm import CHART, Helm
from tests.testbed.prometheus import Promtool

FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
EVER = 'count by (alertname) (count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[%dm])))'
AT_ONCE = 6


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording | BaseException]:
    """All scenarios, some at a time: each is mostly waiting."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def play(name: str) -> Recording:
        async with slots:
            return await SCENARIOS[name].play(tmp_path_factory.mktemp(name))

    async def all_of_them() -> list[Recording | BaseException]:
        return await asyncio.gather(*map(play, SCENARIOS), return_exceptions=True)

    return dict(zip(SCENARIOS, asyncio.run(all_of_them()), strict=True))


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the Prometheus operator would give Prometheus."""
    folder = tmp_path_factory.mktemp("chart")
    values = folder / "values.yaml"
    values.write_text("metrics: {prometheusRule: {enabled: true}}")
    text = Helm(folder).run(
        *("template", "kexport", CHART, "--namespace=monitoring", "--values"),
        *(CHART / "ci" / "least-values.yaml", "--values", values),
    )
    (found,) = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "PrometheusRule"]
    spec: dict[str, Any] = found["spec"]
    return spec


@pytest.fixture
def promtool(tmp_path: Path, rules: dict[str, Any]) -> Promtool:
    folder = tmp_path / "promtool"
    folder.mkdir()
    return Promtool(folder, rules)


def test_the_rules_are_sound(promtool: Promtool, rules: dict[str, Any]) -> None:
    (group,) = rules["groups"]
    assert f"{len(group['rules'])} rules found" in promtool.check()


def test_every_alert_has_a_fault_that_it_is_for(rules: dict[str, Any]) -> None:
    (group,) = rules["groups"]
    fired = {alert for scenario in SCENARIOS.values() for alert in scenario.alerts}
    assert fired == {rule["alert"] for rule in group["rules"]}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_alerts_of_a_fault_fire_and_no_others(
    promtool: Promtool, recordings: dict[str, Recording | BaseException], name: str
) -> None:
    recording, scenario = recordings[name], SCENARIOS[name]
    if isinstance(recording, BaseException):
        raise recording
    whole = recording.minutes
    expected = dict.fromkeys(scenario.alerts, 1.0)
    expressions: list[tuple[int, str, dict[str, float]]] = [(whole - 1, EVER % whole, expected)]
    if scenario.before:
        expressions.append((scenario.before - 1, EVER % scenario.before, {}))
    if scenario.after:
        expressions.append((whole - 1, FIRING, {}))
    promtool.test(recording.series(), expressions)
