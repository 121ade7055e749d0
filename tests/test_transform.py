"""Each kind of rule does what the slow way does, and what it doesn't touch stays byte for byte."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport.errors import ConfigError
from kexport.paths import EVERY, IDENTITY, Every, Like, parse_path, show, touched
from kexport.shape import Shaper
from kexport.tables import TransformConfig
from kexport.transform import LAST_APPLIED, Rule, rules

KEY = b"one key"
GONE = object()

names = st.sampled_from(["a", "b", "ab", "x/y", "metadata", "name", "kind", "spec"])
segments = names | st.just(EVERY) | st.sampled_from([Like("a*"), Like("*b"), Like("x/*"), Like("*")])
paths = st.lists(segments, min_size=1, max_size=4).map(tuple)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "text", "é", '"'])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=14,
)
objects = st.dictionaries(names, values, max_size=5)
styles = st.sampled_from([(",", ":"), (", ", ": ")])


def shape(obj: Any, *steps: Rule, separators=(",", ":")) -> Any:
    text = json.dumps(obj, separators=separators).encode()
    shaped = Shaper("widgets", KEY, steps).shape(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    return json.loads(shaped)


def steps(**config: Any) -> list[Rule]:
    return rules(TransformConfig(resources=("*",), **config))


def fits(segment: Any, key: Any) -> bool:
    """The slow way to ask whether a segment means a member's name, or an element's number."""
    if isinstance(segment, Every):
        return True
    if isinstance(key, int):
        return False
    if isinstance(segment, str):
        return bool(segment == key)
    first, *rest = segment.pattern.split("*")
    if not key.startswith(first):
        return False
    key = key[len(first) :]
    for part in rest[:-1]:
        if part not in key:
            return False
        key = key[key.index(part) + len(part) :]
    return bool(key.endswith(rest[-1]))


def walk(value: Any, paths: list[tuple[Any, ...]], act: Any) -> Any:
    """The slow way: `value` with `act` done to what the paths lead to; the outer one of two counts."""
    if () in paths:
        return act(value)
    if isinstance(value, dict):
        made = {k: walk(v, [p[1:] for p in paths if fits(p[0], k)], act) for k, v in value.items()}
        return {k: v for k, v in made.items() if v is not GONE}
    if isinstance(value, list):
        kept = [walk(v, [p[1:] for p in paths if fits(p[0], n)], act) for n, v in enumerate(value)]
        return [v for v in kept if v is not GONE]
    return value


def hashed(value: Any) -> str:
    content = (
        value.encode()
        if isinstance(value, str)
        else b"\0json:" + json.dumps(value, separators=(",", ":")).encode()
    )
    return "hmac-sha256:" + hmac.new(KEY, content, hashlib.sha256).hexdigest()


def only(value: Any, paths: list[tuple[Any, ...]]) -> Any:
    if () in paths:
        return value
    if not isinstance(value, dict | list):
        return GONE
    items = value.items() if isinstance(value, dict) else enumerate(value)
    made = [(k, only(v, [p[1:] for p in paths if fits(p[0], k)])) for k, v in items]
    made = [(k, v) for k, v in made if v is not GONE]
    if not made:
        return GONE
    return dict(made) if isinstance(value, dict) else [v for _, v in made]


def without_managed_fields(obj: Any) -> Any:
    return walk(obj, [("metadata", "managedFields")], lambda _value: GONE)


@settings(max_examples=200)
@given(objects, st.lists(paths, min_size=1, max_size=3), styles)
def test_drop_takes_out_what_the_paths_lead_to_and_nothing_else(obj, found, style):
    expected = walk(obj, found, lambda _value: GONE)
    assert shape(obj, Rule("drop", tuple(found)), separators=style) == expected


@settings(max_examples=200)
@given(objects, st.lists(paths, min_size=1, max_size=3), styles)
def test_hash_replaces_what_the_paths_lead_to_and_nothing_else(obj, found, style):
    assert shape(obj, Rule("hash", tuple(found)), separators=style) == walk(obj, found, hashed)


@settings(max_examples=200)
@given(objects, st.lists(paths, min_size=1, max_size=3), styles)
def test_keep_leaves_the_paths_and_the_identity_and_nothing_else(obj, found, style):
    kept = only(obj, [*IDENTITY, *found])
    assert shape(obj, Rule("keep", tuple(found)), separators=style) == ({} if kept is GONE else kept)


@settings(max_examples=200)
@given(
    objects,
    st.lists(names, min_size=1, max_size=3).map(tuple),
    st.lists(names, min_size=1, max_size=3).map(tuple),
)
def test_rename_moves_a_member_or_leaves_all_as_it_is(obj, source, target):
    expected = copy.deepcopy(obj)
    inside: Any = expected
    for name in source[:-1]:
        inside = inside.get(name) if isinstance(inside, dict) else None
    if isinstance(inside, dict) and source[-1] in inside:
        value = inside.pop(source[-1])
        inside = expected
        for name in target[:-1]:
            inside = inside.setdefault(name, {}) if isinstance(inside, dict) else None
        if isinstance(inside, dict):
            inside[target[-1]] = value
        else:
            expected = obj
    assert shape(obj, Rule("rename", (source,), (target,))) == expected


@settings(max_examples=100)
@given(objects, paths, paths, paths)
def test_rules_act_one_after_the_other(obj, first, second, third):
    both = [Rule("hash", (first,)), Rule("drop", (second,)), Rule("keep", (third,))]
    expected = walk(walk(obj, [first], hashed), [second], lambda _value: GONE)
    expected = only(expected, [*IDENTITY, third])
    assert shape(obj, *both) == ({} if expected is GONE else expected)


@settings(max_examples=100)
@given(objects, paths)
def test_what_no_rule_changes_is_written_as_it_came(obj, path):
    if walk(obj, [path], lambda _value: GONE) != obj:
        return
    text = json.dumps(obj, separators=(" , ", " : ")).encode()
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    plain = Shaper("widgets", KEY).shape(members)
    for kind in ("drop", "hash"):
        assert Shaper("widgets", KEY, [Rule(kind, (path,))]).shape(members) == plain


def test_siblings_of_a_hashed_value_stay_byte_for_byte():
    raw = {"spec": msgspec.Raw(b'{"a": [{"v": "x", "n": 1.50}, 2 ], "e": 1E3, "u":"\\u00e9"}')}
    shaped = Shaper("widgets", KEY, steps(hash=["spec.a[*].v"])).shape(raw)
    assert shaped == b'{"spec":{"a":[{"v":"%s","n":1.50},2],"e":1E3,"u":"\\u00e9"}}' % hashed("x").encode()


def test_one_entry_hashes_then_drops_then_keeps_then_renames():
    config = {
        "rename": {"spec.a": "spec.b"},
        "keep": ["spec", "status"],
        "drop": ["spec.gone"],
        "hash": ["spec.a", "spec.gone"],
    }
    obj = {"spec": {"a": "x", "gone": 1}, "status": 1, "other": 2}
    assert shape(obj, *steps(**config)) == {"spec": {"b": hashed("x")}, "status": 1}


def test_a_text_has_one_hash_in_a_secret_and_elsewhere():
    secret = Shaper("secrets", KEY).shape({"stringData": msgspec.Raw(b'{"p":"hunter2"}')})
    said = shape({"spec": {"p": "hunter2"}}, *steps(hash=["spec.p"]))
    assert said["spec"]["p"] == json.loads(secret)["stringData"]["p"]


def test_a_number_and_its_text_have_different_hashes():
    said = shape({"a": 5, "b": "5"}, *steps(hash=["a", "b"]))
    assert said["a"] != said["b"]


def test_a_text_that_is_no_unicode_is_hashed_all_the_same():
    shaped = Shaper("widgets", KEY, steps(hash=["a"])).shape({"a": msgspec.Raw(b'"\\ud800"')})
    assert json.loads(shaped)["a"].startswith("hmac-sha256:")


def container(value: str) -> dict[str, Any]:
    return {"name": "c", "env": [{"name": "A", "value": value}, {"name": "B", "valueFrom": {"kept": 1}}]}


POD_SPEC = {
    "containers": [container("s3cr3t-1"), container("s3cr3t-2")],
    "initContainers": [container("s3cr3t-3")],
    "ephemeralContainers": [container("s3cr3t-4")],
}
WORKLOADS: dict[str, dict[str, Any]] = {
    "Pod": {"spec": POD_SPEC},
    "Deployment, StatefulSet, DaemonSet, ReplicaSet, Job": {"spec": {"template": {"spec": POD_SPEC}}},
    "CronJob": {"spec": {"jobTemplate": {"spec": {"template": {"spec": POD_SPEC}}}}},
    "PodTemplate": {"template": {"spec": POD_SPEC}},
    "ControllerRevision": {"data": {"spec": {"template": {"spec": POD_SPEC}}}},
}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_the_preset_env_leaves_no_literal_value_of_pods_and_pod_templates(kind):
    obj = {"metadata": {"annotations": {LAST_APPLIED: json.dumps(WORKLOADS[kind])}}, **WORKLOADS[kind]}
    said = shape(obj, *steps(redact=["env"]))
    assert "s3cr3t" not in json.dumps(said)
    assert json.dumps(said).count("hmac-sha256:") == 5
    assert json.dumps(said).count('"kept": 1') == 4


def test_the_preset_last_applied_hashes_that_annotation_alone():
    obj = {"metadata": {"annotations": {LAST_APPLIED: "{}", "other": "kept"}}}
    said = shape(obj, *steps(redact=["last-applied"]))
    assert said["metadata"]["annotations"] == {LAST_APPLIED: hashed("{}"), "other": "kept"}


@pytest.mark.parametrize(
    ("key", "path", "field"),
    [
        ("drop", "kind", "kind"),
        ("drop", "metadata", "metadata.name"),
        ("hash", "metadata.name", "metadata.name"),
        ("hash", "metadata[*]", "metadata.name"),
        ("drop", "metadata['resource*']", "metadata.resourceVersion"),
        ("drop", "[*]", "apiVersion"),
        ("rename", "metadata.uid", "metadata.uid"),
    ],
)
def test_what_identifies_an_object_cannot_be_changed(key, path, field):
    value = {path: "spec.x"} if key == "rename" else [path]
    with pytest.raises(ConfigError, match=rf"^{key}: .* would change {field}, and without it nobody knows"):
        steps(**{key: value})


def test_a_target_of_rename_cannot_replace_what_identifies_an_object():
    for target in ("kind", "metadata", "metadata.name"):
        with pytest.raises(ConfigError, match="would change"):
            steps(rename={"spec.a": target})
    with pytest.raises(ConfigError, match="lies inside a field that has no members"):
        steps(rename={"spec.a": "kind.a"})


def test_rename_takes_no_pattern():
    with pytest.raises(ConfigError, match=r"^rename: 'spec\[\*\]\.a' has a pattern; a field is moved by"):
        steps(rename={"spec[*].a": "spec.b"})


def test_an_unreadable_path_is_refused_with_its_key():
    for key in ("hash", "drop", "keep"):
        with pytest.raises(ConfigError, match=rf"^{key}: field path 'a\.\.b' is wrong from"):
            steps(**{key: ["a..b"]})


def test_metadata_may_be_touched_beside_what_identifies():
    for text in ("metadata.labels", "metadata.annotations['x/*']", "spec[*]", "status"):
        assert touched(parse_path(text)) == ""


@given(st.lists(st.text("ab./-'é*", min_size=1, max_size=4) | st.integers(0, 9), min_size=1, max_size=4))
def test_a_place_is_shown_as_a_path_that_can_be_read(place):
    text = show(place)
    if any(isinstance(step, int) or "*" in step for step in place):
        return  # an element's number, and a name with a star, are no path
    if not any("'" in step and '"' in step for step in place):
        assert parse_path(text) == tuple(place)
