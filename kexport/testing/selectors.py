"""Label and field selectors, parsed and matched as the API server does.

`!=` and `notin` also admit objects that lack the label; an unknown field label is an error, never "no
match".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kexport.testing.failure import bad_request
from kexport.testing.kinds import NAME_FIELDS, Resource

Object = dict[str, Any]
Labels = dict[str, str]

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<how>in|notin)\s+\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<how>==|=|!=)\s*(?P<value>[^\s!=,()]*)$")
_EXISTS = re.compile(r"^(?P<absent>!?)\s*(?P<key>[^\s!=,()]+)$")
_TOP_LEVEL_COMMA = re.compile(r",(?![^()]*\))")

_BAD_LABELS = "unable to parse requirement: found '{term}', expected: in, notin, =, ==, !=, gt, lt"
_BAD_FIELDS = "invalid selector: '{selector}'; can't understand '{term}'"

# Kinds with a label conversion of their own complain in other words than the common one.
_OWN_CONVERSION = frozenset(
    {"pods", "nodes", "events", "namespaces", "secrets", "services", "replicasets.apps", "jobs.batch"}
)


@dataclass(frozen=True)
class Requirement:
    key: str
    values: frozenset[str] | None
    """None: any value will do, the key has to be there."""
    negated: bool = False

    def met_by(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        hit = value is not None and (self.values is None or value in self.values)
        return hit != self.negated


@dataclass(frozen=True)
class Selection:
    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.labels and not self.fields

    def admits(self, obj: Object) -> bool:
        labels: Labels = obj["metadata"].get("labels") or {}
        if not all(requirement.met_by(labels) for requirement in self.labels):
            return False
        return all(
            requirement.met_by({requirement.key: _field(obj, requirement.key)}) for requirement in self.fields
        )

    def exactly(self, field: str) -> str:
        """Return the one value that the selector lets this field have, or nothing."""
        for requirement in self.fields:
            if requirement.key == field and not requirement.negated and requirement.values:
                return next(iter(requirement.values))
        return ""


def _field(obj: Object, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return "false" if path in ("spec.hostNetwork", "spec.unschedulable") else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse(
    text: str, readers: tuple[Callable[[str], Requirement | None], ...], complaint: str
) -> tuple[Requirement, ...]:
    requirements = []
    for term in filter(None, (part.strip() for part in _TOP_LEVEL_COMMA.split(text))):
        requirement = next(filter(None, (reader(term) for reader in readers)), None)
        if requirement is None:
            raise bad_request(complaint.format(selector=text, term=term))
        requirements.append(requirement)
    return tuple(requirements)


def _set_term(term: str) -> Requirement | None:
    if not (match := _SET.match(term)):
        return None
    values = frozenset(value.strip() for value in match["values"].split(","))
    return Requirement(match["key"], values, negated=match["how"] == "notin")


def _equal_term(term: str) -> Requirement | None:
    if not (match := _EQUAL.match(term)):
        return None
    return Requirement(match["key"], frozenset({match["value"]}), negated=match["how"] == "!=")


def _exists_term(term: str) -> Requirement | None:
    if not (match := _EXISTS.match(term)):
        return None
    return Requirement(match["key"], None, negated=bool(match["absent"]))


def select(resource: Resource, label_selector: str = "", field_selector: str = "") -> Selection:
    labels = _parse(label_selector, (_set_term, _equal_term, _exists_term), _BAD_LABELS)
    fields = _parse(field_selector, (_equal_term,), _BAD_FIELDS)
    for requirement in fields:
        if requirement.key not in NAME_FIELDS + resource.field_labels:
            raise bad_request(_unknown_field(resource, requirement.key))
    return Selection(labels, fields)


def _unknown_field(resource: Resource, label: str) -> str:
    if resource.custom or resource.name in _OWN_CONVERSION:
        return f"field label not supported: {label}"
    return f'"{label}" is not a known field selector: only "metadata.name", "metadata.namespace"'
