"""`python sbom.py FILE` writes what is installed beside this Python as a CycloneDX document.

Only the standard library, since the image's own environment runs it; no time and no random number, so that
the same image has the same document.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any


def document(installed: list[Distribution]) -> dict[str, Any]:
    """Each distribution as a component, and what it was asked to bring along and did."""
    known = {_name(each): each for each in installed}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _component(known["kexport"], kind="application")},
        "components": [_component(each) for name, each in sorted(known.items()) if name != "kexport"],
        "dependencies": [
            {
                "ref": _reference(each),
                "dependsOn": sorted(_reference(known[name]) for name in _needs(each, known)),
            }
            for _, each in sorted(known.items())
        ],
    }


def _component(distribution: Distribution, *, kind: str = "library") -> dict[str, Any]:
    reference = _reference(distribution)
    found: dict[str, Any] = {
        "type": kind,
        "bom-ref": reference,
        "name": _name(distribution),
        "version": distribution.version,
        "purl": reference,
    }
    if licenses := _licenses(distribution):
        found["licenses"] = licenses
    return found


def _licenses(distribution: Distribution) -> list[dict[str, Any]]:
    """As an SPDX expression, or, in distributions of before there were any, by the names that they give."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return [{"expression": metadata["License-Expression"]}]
    classifiers = [each for each in metadata.get_all("Classifier") or () if each.startswith("License :: ")]
    names = [each.rpartition(" :: ")[2] for each in classifiers] or metadata.get_all("License") or []
    # Some give the whole text.
    return [{"license": {"name": name}} for name in names if name and "\n" not in name]


def _needs(distribution: Distribution, known: dict[str, Distribution]) -> set[str]:
    names = {_normal(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in distribution.requires or ()}
    return names & known.keys()


def _reference(distribution: Distribution) -> str:
    return f"pkg:pypi/{_name(distribution)}@{distribution.version}"


def _name(distribution: Distribution) -> str:
    return _normal(distribution.metadata["Name"])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(document([*distributions()]), indent=1) + "\n", encoding="utf-8")
