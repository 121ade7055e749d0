"""From bytes to watch lines: any cut gives the same lines, and nothing but known lines gets through."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexport.change import Metadata
from kexport.errors import ApiError, KexportError, ProtocolError
from kexport.lines import (
    LineSplitter,
    decode_bookmark,
    decode_line,
    decode_metadata,
    flatten,
    status_error,
)

chunks = st.lists(
    st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b"\x00", b"\xff", b'{"a":1}'])).map(b"".join)
)


def line(kind, /, **members):
    return json.dumps({"type": kind, "object": members}).encode()


@given(chunks)
def test_lines_are_the_same_wherever_the_bytes_are_cut(parts):
    splitter = LineSplitter()
    lines = [each for part in parts for each in splitter.feed(part)]
    *whole, _unfinished = b"".join(parts).split(b"\n")
    assert lines == [each for each in whole if each]


@given(chunks, st.integers(min_value=1, max_value=12))
def test_the_limit_holds_wherever_the_bytes_are_cut(parts, limit):
    splitter = LineSplitter(limit)
    too_long = max(map(len, b"".join(parts).split(b"\n"))) > limit
    refused = False
    try:
        for part in parts:
            splitter.feed(part)
    except ProtocolError:
        refused = True
    assert refused == too_long


def test_an_unfinished_line_is_kept_back_until_its_end_comes():
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == [b"one"]
    assert splitter.feed(b"") == []
    assert splitter.feed(b"o") == []
    assert splitter.feed(b"\n") == [b"two"]


def test_a_line_of_exactly_the_limit_passes():
    assert LineSplitter(4).feed(b"1234\n") == [b"1234"]


@pytest.mark.parametrize(
    "parts",
    [[b"12345\n"], [b"12345"], [b"123", b"45"], [b"123", b"45\n"], [b"1\n2\n12345\n"], [b"1\n12345"]],
)
def test_a_line_beyond_the_limit_is_refused_however_it_comes(parts):
    splitter = LineSplitter(4)
    with pytest.raises(ProtocolError, match="more than 4 bytes"):
        _ = [splitter.feed(part) for part in parts]


def test_lines_that_come_in_parts_may_be_more_than_the_limit_together():
    splitter = LineSplitter(4)
    assert [splitter.feed(part) for part in [b"12", b"34\n12", b"34\n12", b"34\n"]] == [[], *[[b"1234"]] * 3]


def test_many_lines_may_be_more_than_the_limit_together():
    assert LineSplitter(4).feed(b"1234\n" * 100) == [b"1234"] * 100


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_a_change_keeps_its_members_as_they_were_written(kind):
    text = (
        b'{"type":"%b","object":{"metadata": {"name":"a"},"spec":{"n":1.50,"s":"\\u00e9"}}}' % kind.encode()
    )
    item = decode_line(text)
    assert item.type == kind
    assert bytes(item.object["spec"]) == b'{"n":1.50,"s":"\\u00e9"}'


def test_an_expired_version_inside_a_watch_is_an_api_error_410():
    failure = line("ERROR", kind="Status", code=410, reason="Expired", message="too old resource version")
    with pytest.raises(ApiError, match="too old resource version") as caught:
        decode_line(failure)
    assert (caught.value.status, caught.value.reason, caught.value.expired) == (410, "Expired", True)


def test_an_internal_error_inside_a_watch_is_not_taken_for_expiry():
    with pytest.raises(ApiError) as caught:
        decode_line(line("ERROR", kind="Status", code=500, message="boom"))
    assert (caught.value.status, caught.value.expired) == (500, False)


def test_the_seconds_to_wait_inside_an_error_line_are_kept():
    with pytest.raises(ApiError) as caught:
        decode_line(line("ERROR", code=429, details={"retryAfterSeconds": 3}))
    assert caught.value.retry_after == 3


def test_an_endless_error_message_is_cut_short():
    with pytest.raises(ApiError) as caught:
        decode_line(line("ERROR", code=500, message="x" * 10_000))
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"ADDED"',
        b'{"type":"ADDED"}',
        b'{"object":{}}',
        b'{"type":1,"object":{}}',
        b'{"type":"ADDED","object":null}',
        b'{"type":"ADDED","object":[]}',
        b'{"type":"ADDED","object":{"metadata":{"name":"cut-o',
        b'{"type":"ADDED","object":{}} trailing',
        b'{"type":"ADDED","object":{"a":tru}}',
        b'{"type":"ADDED","object":{"a":01}}',
        b'{"type":"ADDED","object":{"a":NaN}}',
        b'{"type":"ERROR","object":null}',
        b"upstream connect error",
    ],
)
def test_what_is_no_watch_line_is_a_protocol_error(text):
    with pytest.raises(ProtocolError):
        decode_line(text)


@pytest.mark.parametrize("kind", ["", "added", "RENAMED"])
def test_a_line_of_an_unknown_type_is_a_protocol_error(kind):
    with pytest.raises(ProtocolError, match="unknown type"):
        decode_line(line(kind, metadata={"name": "a"}))


def test_an_error_line_with_something_else_than_a_status_is_a_protocol_error():
    with pytest.raises(ProtocolError, match="without a Status"):
        status_error(b'{"code":"not a number"}')


def test_an_object_nested_deeper_than_python_recurses_raises_none_but_our_errors():
    # The API server takes JSON up to 10,000 levels deep, for instance in a custom resource without schema.
    deep = b"[" * 5000 + b"]" * 5000
    with suppress(KexportError):
        decode_line(
            b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"},"spec":%b}}' % deep
        )


def test_metadata_is_what_the_engine_needs_of_it():
    metadata = {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}}
    item = decode_line(line("ADDED", metadata=metadata))
    assert decode_metadata(item.object) == Metadata("web", "shop", "u", "7")


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "Table", "metadata": {"resourceVersion": "7"}, "rows": []},
        {"kind": "Pod"},
        {"metadata": None},
        {"metadata": []},
        {"metadata": {}},
        {"metadata": {"name": "web"}},
        {"metadata": {"resourceVersion": "7"}},
        {"metadata": {"name": "web", "resourceVersion": 7}},
    ],
)
def test_an_object_without_name_or_version_is_a_protocol_error(members):
    item = decode_line(line("ADDED", **members))
    with pytest.raises(ProtocolError):
        decode_metadata(item.object)


def test_a_bookmark_gives_its_version_and_ends_nothing():
    item = decode_line(line("BOOKMARK", kind="Pod", metadata={"resourceVersion": "7"}, spec=None))
    assert decode_bookmark(item.object) == ("7", False)


@pytest.mark.parametrize(("value", "ends"), [("true", True), ("false", False), ("", False)])
def test_only_the_annotated_bookmark_ends_the_initial_events(value, ends):
    metadata = {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": value}}
    assert decode_bookmark(decode_line(line("BOOKMARK", metadata=metadata)).object) == ("7", ends)


@pytest.mark.parametrize("members", [{}, {"metadata": {}}, {"metadata": {"annotations": 1}}])
def test_a_bookmark_without_version_is_a_protocol_error(members):
    item = decode_line(line("BOOKMARK", **members))
    with pytest.raises(ProtocolError):
        decode_bookmark(item.object)


def test_a_big_object_with_many_brackets_keeps_its_bytes_whatever_its_strings_are():
    """Its brackets are counted by how they stand in each other; those in strings are none."""
    text = json.dumps(
        {"a": [{"x": ['}"]\\', "{[", "\\\\", '\\"{']} for _ in range(400)], "}": {"{": "[["}}
    ).encode()
    assert text.count(b"{") + text.count(b"[") > 500
    assert flatten(text, 500) is text


@pytest.mark.parametrize("disguise", ["}", "]", '\\"}', "{}"])
def test_brackets_in_names_do_not_hide_how_deep_an_object_is(disguise):
    text = (b'{"%b":' % disguise.encode()) * 600 + b"1" + b"}" * 600
    cut = flatten(text, 500)
    assert cut != text
    assert json.loads(cut)
