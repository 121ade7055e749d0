"""A tree of kubernetes-event-exporter and the routes made of it send each Event to the same receivers.

The tree is judged by an interpreter of its own here, written from what that program does; the routes' `where`
by one for the few words of CEL that are written.
"""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport.condition import Where
from kexport.eventexporter import translate
from kexport.eventrules import as_globs
from kexport.testing import make_event

FIELDS = {
    "message": ("message",),
    "apiVersion": ("involvedObject", "apiVersion"),
    "kind": ("involvedObject", "kind"),
    "namespace": ("metadata", "namespace"),
    "reason": ("reason",),
    "type": ("type",),
    "component": ("source", "component"),
    "host": ("source", "host"),
}
RECEIVERS = ("a", "b", "c")


# -- what that program does --------------------------------------------------------------------------------


def field(event: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = event
    for step in path:
        found = found.get(step, {} if step != path[-1] else "")
    return found


def rule_matches(rule: dict[str, Any], event: dict[str, Any]) -> bool:
    for name, path in FIELDS.items():
        pattern = rule.get(name, "")
        if not pattern:
            continue
        try:
            matched = re.search(pattern, str(field(event, path)))
        except re.error:
            matched = None  # an error there is no match
        if not matched:
            return False
    return int(event.get("count", 0)) >= int(rule.get("minCount", 0))


def sent(route: dict[str, Any], event: dict[str, Any]) -> set[str]:
    if any(rule_matches(rule, event) for rule in route.get("drop", ())):
        return set()
    found, all_matched = set(), True
    for rule in route.get("match", ()):
        if rule_matches(rule, event):
            found |= {rule["receiver"]} if "receiver" in rule else set()
        else:
            all_matched = False
    if all_matched:
        for below in route.get("routes", ()):
            found |= sent(below, event)
    return found


# -- what the routes say -----------------------------------------------------------------------------------

TOKEN = re.compile(
    r'(?P<text>r?"(?:[^"\\]|\\.)*")|has\(object\.(?P<has>[\w.]+)\)|object\.(?P<match>[\w.]+)\.matches'
    r"|object\.(?P<get>[\w.]+)|(?P<and>&&)|(?P<or>\|\|)|(?P<not>!(?!=))|(?P<rest>[()\s]|==|>=|\d+)"
)


def evaluate(where: str, event: dict[str, Any]) -> bool:
    """CEL, as far as it is written: an absent field that is not asked for with has() is an error."""

    def get(path: str) -> Any:
        found: Any = event
        for step in path.split("."):
            found = found[step]
        return found

    def has(path: str) -> bool:
        *around, last = path.split(".")
        return last in (get(".".join(around)) if around else event)

    words = []
    place = 0
    while place < len(where):
        token = TOKEN.match(where, place)
        assert token, where[place:]
        place = token.end()
        words.append(
            f"has({token['has']!r})" if token["has"]
            else f"matches({token['match']!r})" if token["match"]
            else f"get({token['get']!r})" if token["get"]
            else " and " if token["and"]
            else " or " if token["or"]
            else " not " if token["not"]
            else token["text"] or token["rest"]
        )  # fmt: skip

    def matches(path: str) -> Any:
        return lambda pattern: re.search(pattern, get(path)) is not None

    return bool(eval("".join(words), {"get": get, "has": has, "matches": matches}))


def ask(where: str, event: dict[str, Any]) -> bool:
    """The evaluator that kexport itself has."""
    body = {"object": {"kind": "Event", "apiVersion": "v1", **event}}
    return Where(where).holds(make_event(data=body))


def routed(routes: list[dict[str, Any]], event: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for route in routes:
        namespaces = route.get("namespaces", ["*"])
        if not any(fnmatchcase(event["metadata"]["namespace"], name) for name in namespaces):
            continue
        answers = {judge(route["where"], event) for judge in (evaluate, ask)} if "where" in route else {True}
        assert len(answers) == 1, route["where"]
        if answers == {True}:
            found |= set(route["sinks"])
    return found


# -- and that it is the same -------------------------------------------------------------------------------

patterns = st.sampled_from(
    ["Pod", "^Pod$", "Pod|Node", "^(shop|prod)$", "shop", "^kube-.*", "prod-", r"a\.b", "*x*", ".*", "", "^$",
     '"', "it's", "kube-system$", "[a-m]", r"\d+s", "shop|^prod$"]
)  # fmt: skip
rules = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, patterns),
        "minCount": st.integers(0, 3),
        "receiver": st.sampled_from(RECEIVERS),
    },
)
drops = st.fixed_dictionaries({}, optional={**dict.fromkeys(FIELDS, patterns), "minCount": st.integers(0, 3)})
trees = st.recursive(
    st.fixed_dictionaries(
        {}, optional={"drop": st.lists(drops, max_size=2), "match": st.lists(rules, max_size=2)}
    ),
    lambda below: st.fixed_dictionaries(
        {"routes": st.lists(below, min_size=1, max_size=3)},
        optional={"drop": st.lists(drops, max_size=1), "match": st.lists(rules, max_size=2)},
    ),
    max_leaves=5,
)
words = st.sampled_from(
    ["Pod", "Node", "shop", "prod", "a.b", 'say "x"', "it's", "back-off 10s", "kube-proxy", ""]
)
events = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"namespace": st.sampled_from(["shop", "prod", "prod-1", "kube-system", "xshopx", "a"])}
        ),
        "involvedObject": st.fixed_dictionaries({"kind": words}, optional={"apiVersion": words}),
    },
    optional={
        "message": words, "reason": words, "type": words, "count": st.integers(1, 4),
        "source": st.fixed_dictionaries({}, optional={"component": words, "host": words}),
    },
)  # fmt: skip


@settings(max_examples=400)
@given(tree=trees, some=st.lists(events, min_size=1, max_size=6))
def test_each_event_reaches_the_receivers_that_it_reached(tree: dict[str, Any], some: list[dict[str, Any]]):
    # One match that always holds, so that there is something to export.
    tree = {"routes": [tree, {"match": [{"receiver": "always"}]}]}
    receivers = [{"name": name, "stdout": {}} for name in (*RECEIVERS, "always")]
    text = yaml.safe_dump({"route": tree, "receivers": receivers})
    routes = tomllib.loads(translate(text).render())["routes"]
    for event in some:
        assert routed(routes, event) == sent(tree, event), json.dumps(routes)


def test_labels_of_the_involved_object_make_the_sink_get_more_and_never_less():
    rule = "{kind: Pod, labels: {team: shop}, receiver: a}"
    text = f"route: {{drop: [{{type: Normal, annotations: {{x: y}}}}], match: [{rule}]}}\n"
    found = translate(text + "receivers: [{name: a, stdout: {}}]").render()
    (route,) = tomllib.loads(found)["routes"]
    assert route["where"] == 'object.involvedObject.kind.matches("Pod")'
    assert "route.drop[0]: left out as a whole" in found
    assert "route.match[0].labels: these are the labels of the object that the Event is about" in found


@pytest.mark.parametrize(
    ("pattern", "globs"),
    [
        ("shop", ("*shop*",)),
        ("^shop$", ("shop",)),
        ("^kube-.*", ("kube-*",)),
        ("shop$|^prod-", ("*shop", "prod-*")),
        ("^(shop|prod)$", ("shop", "prod")),
        ("^a.*b$", ("a*b",)),
        ("a.b", ()),
        ("[ab]", ()),
        ("(a|b)c", ()),
        ("a+", ()),
    ],
)
def test_what_is_simple_becomes_a_pattern_of_namespaces(pattern: str, globs: tuple[str, ...]):
    assert as_globs(pattern) == globs
    for name in ("shop", "prod", "prod-1", "kube-system", "xshop", "shopx", "a-b", "ab", "b"):
        if globs:
            assert (re.search(pattern, name) is not None) == any(fnmatchcase(name, glob) for glob in globs)


@pytest.mark.parametrize("pattern", ["*a*", "(?=a)", "(a", r"(a)\1", "a++"])
def test_what_is_no_regular_expression_there_never_matches_here(pattern: str):
    tree = {"match": [{"reason": pattern, "receiver": "a"}, {"receiver": "b"}]}
    receivers = [{"name": name, "stdout": {}} for name in "ab"]
    found = translate(yaml.safe_dump({"route": tree, "receivers": receivers})).render()
    assert [route["sinks"] for route in tomllib.loads(found)["routes"]] == [["b"]]
    assert "is no regular expression" in found.replace("\n#   ", " ")
