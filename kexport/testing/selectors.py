"""Label and field selectors, parsed and matched as the API server does.

An unknown field label is an error, never "no match".
"""

import re
from dataclasses import dataclass
from typing import Any

from kexport import selector
from kexport.selector import Requirement, SelectorError
from kexport.testing.failure import bad_request
from kexport.testing.kinds import NAME_FIELDS, Resource

Object = dict[str, Any]
Labels = dict[str, str]

_EQUAL = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<how>==|=|!=)\s*(?P<value>[^\s!=,()]*)$")

_BAD_LABELS = "unable to parse requirement: found '{term}', expected: in, notin, =, ==, !=, gt, lt"
_BAD_FIELDS = "invalid selector: '{selector}'; can't understand '{term}'"

# Kinds with a label conversion of their own complain in other words than the common one.
_OWN_CONVERSION = frozenset(
    {"pods", "nodes", "events", "namespaces", "secrets", "services", "replicasets.apps", "jobs.batch"}
)


@dataclass(frozen=True)
class Selection:
    labels: selector.Selector = ()
    fields: tuple[Requirement, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.labels and not self.fields

    def admits(self, obj: Object) -> bool:
        labels: Labels = obj["metadata"].get("labels") or {}
        if not selector.admits(self.labels, labels):
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


def _labels(text: str) -> selector.Selector:
    try:
        return selector.parse(text)
    except SelectorError as error:
        raise bad_request(_BAD_LABELS.format(term=error.term)) from error


def _fields(text: str) -> tuple[Requirement, ...]:
    requirements = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        requirement = _equal_term(term)
        if requirement is None:
            raise bad_request(_BAD_FIELDS.format(selector=text, term=term))
        requirements.append(requirement)
    return tuple(requirements)


def _equal_term(term: str) -> Requirement | None:
    if not (match := _EQUAL.match(term)):
        return None
    return Requirement(match["key"], frozenset({match["value"]}), negated=match["how"] == "!=")


def select(resource: Resource, label_selector: str = "", field_selector: str = "") -> Selection:
    labels, fields = _labels(label_selector), _fields(field_selector)
    for requirement in fields:
        if requirement.key not in NAME_FIELDS + resource.field_labels:
            raise bad_request(_unknown_field(resource, requirement.key))
    return Selection(labels, fields)


def _unknown_field(resource: Resource, label: str) -> str:
    if resource.custom or resource.name in _OWN_CONVERSION:
        return f"field label not supported: {label}"
    return f'"{label}" is not a known field selector: only "metadata.name", "metadata.namespace"'
