"""Configurations of other exporters, what is made of them, and what that says once it is loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kexport import config, plugins
from kexport.condition import Where
from kexport.migration import ORIGINS

SAMPLES = {
    "kubernetes-event-exporter": Path(__file__).parent / "migrations" / "events.yaml",
    "k8sobjects": Path(__file__).parent / "migrations" / "collector.yaml",
}
TYPES = plugins.load().types
KEE, OTEL = "kubernetes-event-exporter", "k8sobjects"


def translated(origin: str, text: str) -> str:
    return ORIGINS[origin](text).render()


def loaded(text: str, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """As `kexport check` loads it, with every variable of it set."""
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, "https://hooks.example.org/x" if name.endswith("URL") else "value")
    found = config.parse(text, TYPES)
    for route in found.root.routes:
        if route.where:
            Where(route.where)  # compiles, or is refused with its place
    return found


def tree(*rules: str, receivers: str = "receivers: [{name: a, stdout: {}}, {name: b, stdout: {}}]") -> str:
    return "route:\n" + "".join(f"  {line}\n" for rule in rules for line in rule.splitlines()) + receivers
