"""kubernetes-event-exporter's routing tree -> routes: who gets which Event, as CEL over `object`.

A rule's fields are regular expressions (Go's, which CEL's `matches` takes, too) that may match anywhere. A
route drops first; each rule that matches sends to its receiver; routes below are reached if all matched. What
a condition cannot say makes the sink get more, never less.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from kexport.draft import Table
from kexport.foreign import Value

# A rule's field -> where an Event has it.
FIELDS = {
    "message": "message",
    "apiVersion": "involvedObject.apiVersion",
    "kind": "involvedObject.kind",
    "namespace": "metadata.namespace",
    "reason": "reason",
    "type": "type",
    "component": "source.component",
    "host": "source.host",
}
RULE = (*FIELDS, "labels", "annotations", "minCount", "receiver")
ROUTE = ("drop", "match", "routes")
_ALWAYS = frozenset({"metadata.namespace", "involvedObject", "involvedObject.kind"})  # every Event has them
# What Python takes and Go does not: the pattern never matched anything.
_NOT_IN_GO = re.compile(r"\(\?(=|!|<=|<!|>|\()|(?<!\\)(\\\\)*\\[1-9]|[*+?}]\+")
_NOTHING = "false"
_GLOB = re.compile(r"\^?(?:[a-z0-9-]|\.\*)+\$?")


class Route(NamedTuple):
    """A [[routes]] to be: `receivers` get the Events of these namespaces (none: all) where `where` holds."""

    receivers: tuple[str, ...]
    namespaces: tuple[str, ...]
    where: str
    counts: bool  # asks how often an Event happened, which only its later versions tell


class _Rule(NamedTuple):
    """What a rule demands: terms joined by `and`; `exact`: nothing of it had to be left out."""

    terms: tuple[str, ...]
    namespaces: tuple[str, ...]
    receiver: str
    never: bool
    exact: bool
    counts: bool

    @property
    def all_terms(self) -> tuple[str, ...]:
        """With the namespaces as a term like the others."""
        if not self.namespaces:
            return self.terms
        names = " || ".join(_namespace_term(pattern) for pattern in self.namespaces)
        return (f"({names})" if len(self.namespaces) > 1 else names, *self.terms)


def routes(tree: Value, notes: Table) -> list[Route]:
    """The routes of a tree, those with one condition joined."""
    joined: dict[tuple[tuple[str, ...], str, bool], list[str]] = {}
    for route in _routes(tree, (), False, notes):
        receivers = joined.setdefault((route.namespaces, route.where, route.counts), [])
        receivers += [name for name in route.receivers if name not in receivers]
    return [Route(tuple(names), *key) for key, names in joined.items()]


def _routes(route: Value, above: tuple[str, ...], counts: bool, notes: Table) -> Iterator[Route]:
    route.table(ROUTE)
    dropped = _dropped(route, notes)
    if _NOTHING in dropped:
        notes.note(route, "its empty drop rule drops everything, so nothing of it is translated")
        return
    rules = [_rule(value, notes) for value in _list(route, "match")]
    for rule, value in zip(rules, _list(route, "match"), strict=True):
        if rule.never and rule.receiver:
            notes.note(value.members["receiver"], f"{rule.receiver!r} gets nothing by this rule, as before")
        elif rule.receiver:
            where = " && ".join((*above, *dropped, *rule.terms))
            yield Route((rule.receiver,), rule.namespaces, where, counts or rule.counts)
    below = _list(route, "routes")
    if below and any(rule.never for rule in rules):
        notes.note(route.members["routes"], "never reached, since a match rule beside it never matches")
        return
    reached = (*above, *dropped, *(term for rule in rules for term in rule.all_terms))
    for each in below:
        yield from _routes(each, reached, counts or any(rule.counts for rule in rules), notes)


def _dropped(route: Value, notes: Table) -> list[str]:
    """A term for each drop rule."""
    found = []
    for value in _list(route, "drop"):
        rule = _rule(value, notes)
        if rule.receiver:
            notes.note(value.members["receiver"], "means nothing in a drop rule")
        if not rule.never and rule.exact:
            found.append(_not(rule.all_terms))
        elif not rule.never:
            terms = " && ".join(rule.all_terms) or "nothing else"
            why = f"without its labels and annotations ({terms}) it would drop more"
            notes.note(value, f"left out as a whole: {why}")
    return found


def _list(route: Value, name: str) -> list[Value]:
    found = route.get(name)
    return list(found.list()) if found else []


def _rule(value: Value, notes: Table) -> _Rule:
    value.table(RULE)
    terms: list[str] = []
    namespaces: tuple[str, ...] = ()
    never = False
    for name, path in FIELDS.items():
        found = value.get(name)
        if found is None or not (pattern := found.text()):
            continue
        if not valid(found, pattern, notes):
            never = True
        elif name == "namespace" and (globs := as_globs(pattern)):
            namespaces = globs
        else:
            terms.append(matches(path, pattern))
    exact = True
    for name in ("labels", "annotations"):
        if (found := value.get(name)) and found.members:
            exact = False
            notes.note(found, _NO_LOOKUP.format(name=name))
    counts = False
    if (minimum := value.get("minCount")) and minimum.number() >= 1:
        counts = minimum.number() > 1
        terms.append(f"has(object.count) && object.count >= {minimum.number():.0f}")
    receiver = value.get("receiver")
    return _Rule(tuple(terms), namespaces, receiver.text() if receiver else "", never, exact, counts)


_NO_LOOKUP = (
    "these are the {name} of the object that the Event is about, and kexport asks the API server for no"
    " objects but those it watches; without them the sink gets more. Watch the resource with a selector,"
    " if its own changes are what is wanted"
)


# -- patterns -----------------------------------------------------------------------------------------------


def valid(value: Value, pattern: str, notes: Table) -> bool:
    """Whether Go's regular expressions know it; notes why not. Such a pattern never matches there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # [[:alpha:]] is a class in Go
            re.compile(pattern)
    except re.error as error:
        if re.search(r"\\[pPQEzC]", pattern):
            return True  # Go's own; Python cannot tell more
        problem = str(error)
    else:
        if not (other := _NOT_IN_GO.search(pattern)):
            return True
        problem = f"Go's regular expressions have no {other[0]}"
    notes.note(
        value,
        f"{pattern!r} is no regular expression ({problem}): kubernetes-event-exporter takes it for one that"
        " never matches, and so its rule has never done anything; if a shell's pattern was meant, * is .*",
    )
    return False


def matches(path: str, pattern: str) -> str:
    """CEL for: the Event's field, or "" where it is absent, matches somewhere."""
    field = f"object.{path}"
    found = f"{field}.matches({quoted(pattern)})"
    if path in _ALWAYS:
        return found
    steps = path.split(".")
    paths = [".".join(steps[: number + 1]) for number in range(len(steps))]
    present = " && ".join(f"has(object.{each})" for each in paths if each not in _ALWAYS)
    if _matches_nothing(pattern):
        return f"(!({present}) || {found})"
    return f"{present} && {found}"


def _matches_nothing(pattern: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return re.search(pattern, "") is not None
    except re.error:
        return False


def as_globs(pattern: str) -> tuple[str, ...]:
    """The same as patterns of [[routes]] namespaces; none if it says more than these can."""
    inner = re.fullmatch(r"\^\(([^()]*)\)\$", pattern)
    parts = [f"^{part}$" for part in inner[1].split("|")] if inner else pattern.split("|")
    if not all(_GLOB.fullmatch(part) for part in parts):
        return ()
    return tuple(_glob(part) for part in parts)


def _glob(part: str) -> str:
    head = "" if part.startswith("^") else "*"
    tail = "" if part.endswith("$") else "*"
    return re.sub(r"\*+", "*", f"{head}{part.strip('^$').replace('.*', '*')}{tail}")


def _namespace_term(glob: str) -> str:
    body = glob.strip("*")
    if "*" in body:
        return matches(FIELDS["namespace"], f"^{glob.replace('*', '.*')}$")
    head, tail = "" if glob.startswith("*") else "^", "" if glob.endswith("*") else "$"
    if head and tail:
        return f"object.metadata.namespace == {quoted(body)}"
    return matches(FIELDS["namespace"], f"{head}{body}{tail}")


def _not(terms: tuple[str, ...]) -> str:
    return f"!({' && '.join(terms)})" if terms else _NOTHING


def quoted(text: str) -> str:
    """A CEL string: raw where that saves escaping, so that a regular expression stays readable."""
    if "\\" in text and not set(text) & {'"', "\n", "\r"}:
        return f'r"{text}"'
    return json.dumps(text, ensure_ascii=False)
