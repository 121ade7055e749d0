"""What must not be kept is gone from the bytes, and everything else is the bytes that it was."""

import base64
import copy
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport.change import RawObject
from kexport.errors import ConfigError
from kexport.paths import EVERY, Like, parse_path
from kexport.shape import Shaper
from kexport.transform import LAST_APPLIED, Rule

keys = st.sampled_from(["metadata", "managedFields", "a.b/c", 'qu"ote', "back\\slash", "'", ""]) | st.text(
    max_size=4
)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
styles = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]),
    }
)
objects = st.dictionaries(keys, values, max_size=4)
# A prefix, so that a value isn't by chance what also stands in the object for other reasons.
plain_values = st.text(max_size=12).map("s3cr3t-".__add__)
entries = st.dictionaries(st.text("abc.-_", min_size=1, max_size=5), plain_values, min_size=1, max_size=3)

SECRETS = Shaper("secrets", b"one key")
PLAIN = Shaper("configmaps", b"one key")


def members(obj, style=None) -> RawObject:
    text = json.dumps(obj, allow_nan=False, **(style or {}))
    return msgspec.json.decode(text.encode(), type=dict[str, msgspec.Raw])


def shape(shaper, obj, style=None):
    return json.loads(shaper.shape(members(obj, style)))


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def drop(obj, path):
    """The slow way: the same object without the member at this path."""
    inner = kept = copy.deepcopy(obj)
    for name in path[:-1]:
        inner = inner.get(name)
        if not isinstance(inner, dict):
            return kept
    inner.pop(path[-1], None)
    return kept


@settings(max_examples=150)
@given(objects, styles)
def test_only_managed_fields_of_the_objects_own_metadata_go(obj, style):
    assert shape(PLAIN, obj, style) == drop(obj, ("metadata", "managedFields"))


@settings(max_examples=150)
@given(objects, st.lists(keys, min_size=1, max_size=4), styles)
def test_a_dropped_path_goes_and_nothing_else_does(obj, path, style):
    shaper = Shaper("configmaps", b"key", [Rule("drop", (tuple(path),))])
    assert shape(shaper, obj, style) == drop(drop(obj, ("metadata", "managedFields")), path)


@settings(max_examples=50)
@given(objects, st.integers(1, 4))
def test_an_indented_object_is_written_in_one_line(obj, indent):
    shaped = PLAIN.shape(members(obj, {"indent": indent}))
    assert b"\n" not in shaped
    assert json.loads(shaped) == drop(obj, ("metadata", "managedFields"))


def test_siblings_of_what_goes_stay_byte_for_byte():
    raw = {
        "metadata": msgspec.Raw(b'{"labels" : {"n" : "\\u00e9"}, "managedFields": [1]}'),
        "spec": msgspec.Raw(b'{"n": 1.50 , "e":1E3}'),
    }
    assert PLAIN.shape(raw) == b'{"metadata":{"labels":{"n" : "\\u00e9"}},"spec":{"n": 1.50 , "e":1E3}}'


def test_arrays_on_the_way_are_left_alone():
    obj = {"spec": {"containers": [{"env": 1}], "0": {"env": 1}}}
    assert shape(Shaper("pods", b"", [Rule("drop", (parse_path("spec.containers.env"),))]), obj) == obj


@pytest.mark.parametrize("inner", [None, 1, "text", [], True])
def test_a_path_through_something_without_members_drops_nothing(inner):
    assert shape(Shaper("pods", b"", [Rule("drop", (("status", "phase"),))]), {"status": inner}) == {
        "status": inner
    }


def test_several_paths_are_dropped_in_turn():
    shaper = Shaper("pods", b"", [Rule("drop", (("status", "a"), ("spec",), ("status", "b")))])
    assert shape(shaper, {"spec": 1, "status": {"a": 1, "b": 2, "c": 3}}) == {"status": {"c": 3}}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("status", ("status",)),
        ("metadata.labels.app", ("metadata", "labels", "app")),
        ("metadata.annotations['a.b/c']", ("metadata", "annotations", "a.b/c")),
        ('metadata.annotations["it\'s"].x', ("metadata", "annotations", "it's", "x")),
        ("['a']['b']", ("a", "b")),
        ("a[ 'b c' ]", ("a", "b c")),
        ("spec.$ref-1_x", ("spec", "$ref-1_x")),
        ("spec.containers[*].env[ * ].value", ("spec", "containers", EVERY, "env", EVERY, "value")),
        ("metadata.annotations['x/*']", ("metadata", "annotations", Like("x/*"))),
    ],
)
def test_a_path_is_read_as_it_is_written(text, path):
    assert parse_path(text) == path


@given(st.lists(st.text(max_size=6).filter(lambda name: not set("'*") & set(name)), min_size=1, max_size=4))
def test_any_member_name_without_apostrophe_and_star_can_be_quoted(path):
    assert parse_path("".join(f"['{name}']" for name in path)) == tuple(path)


@pytest.mark.parametrize(
    "text", [".a", "a..b", "a.", "a[b]", "a['b", "a[0]", "a b", "a.'b'", "spec.*", "a[*", "a[*]b["]
)
def test_a_malformed_path_is_refused_and_shown(text):
    with pytest.raises(ConfigError) as caught:
        parse_path(text)
    assert repr(text) in str(caught.value)
    assert "write a.b['c.d/e'].f" in str(caught.value)


def test_an_empty_path_is_refused_with_an_example():
    with pytest.raises(ConfigError, match=r"empty; write metadata\.labels"):
        parse_path("")


@settings(max_examples=150)
@given(entries, entries, styles)
def test_no_secret_value_is_in_the_output_in_any_form(data, string_data, style):
    manifest = json.dumps({"kind": "Secret", "stringData": data | string_data})
    secret = {
        "kind": "Secret",
        "metadata": {"name": "s", "annotations": {LAST_APPLIED: manifest, "other": "kept"}},
        "data": {name: encoded(value) for name, value in data.items()},
        "stringData": string_data,
    }
    output = SECRETS.shape(members(secret, style))
    for value in (*data.values(), *string_data.values()):
        for form in (value, json.dumps(value)[1:-1], encoded(value)):
            assert form.encode() not in output
    assert json.loads(output)["metadata"]["annotations"]["other"] == "kept"


@settings(max_examples=100)
@given(plain_values, plain_values)
def test_a_value_has_the_same_hash_exactly_if_it_is_the_same(one, other):
    said = shape(SECRETS, {"data": {"a": encoded(one), "b": encoded(other)}})["data"]
    assert (said["a"] == said["b"]) == (one == other)


@given(plain_values)
def test_a_value_has_one_hash_in_data_and_in_string_data(value):
    said = shape(SECRETS, {"data": {"a": encoded(value)}, "stringData": {"a": value}})
    assert said["data"] == said["stringData"]


def test_another_key_gives_another_hash():
    secret = {"data": {"a": encoded("hunter2")}}
    assert shape(SECRETS, secret) != shape(Shaper("secrets", b"another key"), secret)
    assert shape(SECRETS, secret) == shape(Shaper("secrets", b"one key"), secret)


def test_a_hash_says_how_it_was_made():
    assert shape(SECRETS, {"data": {"a": encoded("hunter2")}})["data"]["a"].startswith("hmac-sha256:")


def test_names_of_a_secrets_entries_are_kept():
    assert list(shape(SECRETS, {"data": {"user": "", "password": ""}})["data"]) == ["user", "password"]


def test_a_value_that_is_no_base64_is_hashed_all_the_same():
    assert b"!not base64!" not in SECRETS.shape(members({"data": {"a": "!not base64!"}}))


def test_what_merely_resembles_base64_is_another_value():
    said = shape(SECRETS, {"data": {"a": "aGk=", "b": "a!Gk="}})["data"]
    assert said["a"] != said["b"]


@pytest.mark.parametrize("name", ["data", "stringData"])
def test_null_data_stays_null(name):
    assert shape(SECRETS, {name: None}) == {name: None}


@pytest.mark.parametrize(
    "odd", ["hunter2", ["hunter2"], {"a": ["hunter2"]}, {"a": None, "b": "hunter2"}, {"a": {"b": "hunter2"}}]
)
@pytest.mark.parametrize("name", ["data", "stringData"])
def test_data_of_an_unknown_shape_is_hashed_whole(name, odd):
    output = SECRETS.shape(members({name: odd}))
    assert b"hunter2" not in output
    assert json.loads(output)[name].startswith("hmac-sha256:")


@pytest.mark.parametrize("odd", [None, "hunter2", {"hunter2": 1}, ["hunter2"]])
def test_a_last_applied_annotation_of_any_type_is_hashed(odd):
    secret = {"metadata": {"annotations": {LAST_APPLIED: odd}}}
    assert b"hunter2" not in SECRETS.shape(members(secret))


@pytest.mark.parametrize("metadata", [None, 1, [], {"annotations": None}, {"annotations": []}, {}])
def test_a_secret_with_odd_metadata_is_still_redacted(metadata):
    said = shape(SECRETS, {"metadata": metadata, "data": {"a": encoded("hunter2")}})
    assert said["metadata"] == metadata
    assert said["data"]["a"].startswith("hmac-sha256:")


def test_managed_fields_of_a_secret_go_too():
    secret = {"metadata": {"managedFields": [1], "annotations": {LAST_APPLIED: "x"}}, "data": {}}
    assert "managedFields" not in shape(SECRETS, secret)["metadata"]


def test_only_secrets_are_redacted():
    config = {"data": {"a": "kept"}, "metadata": {"annotations": {LAST_APPLIED: "kept"}}}
    assert shape(PLAIN, config) == config
    assert shape(Shaper("secrets.other.example", b""), config) == config


def test_a_broken_object_raises_a_decode_error():
    with pytest.raises(msgspec.DecodeError):
        PLAIN.shape({"metadata": msgspec.Raw(b'{"name":')})
