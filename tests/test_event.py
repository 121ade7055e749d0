"""The CloudEvent on the wire: spliced bytes mean what the SDK would have written, and can be read back."""

import json
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event, to_binary_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport.event import Attributes, Event, splice
from kexport.testing import make_event

ATTRIBUTES = make_event(7, time="2026-01-02T03:04:05.678901Z").attributes
STRUCTURED = {"content-type": "application/cloudevents+json"}

keys = st.sampled_from(["data", "id", "object", 'qu"ote', "back\\slash", "\u2028", ""]) | st.text(max_size=6)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=10)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
styles = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), ("\t,", " :\r")]),
    }
)
# What may stand in an attribute: no control characters, as CloudEvents has it.
strings = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=12
)


def write(document, style):
    return json.dumps(document, allow_nan=False, **style).encode()


@settings(max_examples=150)
@given(documents, styles)
def test_a_spliced_line_says_what_the_sdk_would_write(document, style):
    attributes = msgspec.to_builtins(ATTRIBUTES) | {"time": datetime.fromisoformat(ATTRIBUTES.time)}
    slow = JSONFormat().write(CloudEvent(attributes, {"object": document}))
    event = splice(ATTRIBUTES, write({"object": document}, style))
    assert json.loads(event.line) == json.loads(slow)


@settings(max_examples=100)
@given(documents, styles)
def test_the_sdk_reads_a_spliced_line(document, style):
    event = splice(ATTRIBUTES, write({"object": document}, style))
    read = from_structured_event(HTTPMessage(STRUCTURED, event.line))
    assert read.get_data() == {"object": document}
    assert (read.get_id(), read.get_source(), read.get_type()) == (event.id, event.source, event.type)
    assert read.get_time() == event.time


@settings(max_examples=100)
@given(documents, styles)
def test_an_event_read_back_from_its_line_is_equal(document, style):
    event = splice(ATTRIBUTES, write({"object": document}, style))
    again = Event(event.line)
    assert again.attributes == event.attributes
    assert again.data == event.data == {"object": document}


@settings(max_examples=100)
@given(documents, styles)
def test_binary_mode_sends_the_very_bytes_that_were_spliced_in(document, style):
    data = write({"object": document}, style)
    event = splice(ATTRIBUTES, data)
    assert event.data_json == Event(event.line).data_json == data


@settings(max_examples=50)
@given(documents)
def test_the_sdks_binary_mode_has_the_same_data(document):
    event = splice(ATTRIBUTES, write({"object": document}, {}))
    message = to_binary_event(from_structured_event(HTTPMessage(STRUCTURED, event.line)))
    assert json.loads(message.body) == json.loads(event.data_json)


@settings(max_examples=100)
@given(strings, strings)
def test_any_text_in_an_attribute_survives_the_line(subject, reason):
    attributes = msgspec.structs.replace(ATTRIBUTES, subject=subject, rejectedreason=reason)
    line = splice(attributes, b"{}").line
    assert Event(line).attributes == attributes
    assert json.loads(line)["subject"] == subject


def test_attribute_names_are_legal_cloudevents_names():
    for name in Attributes.__struct_fields__:
        assert re.fullmatch(r"[a-z0-9]{1,20}", name)


def test_attributes_without_a_value_are_left_out():
    written = json.loads(make_event(objnamespace="").line)
    assert not {"objnamespace", "rejectedby", "rejectedreason"} & set(written)


def test_data_is_the_last_member_of_the_line():
    assert list(json.loads(make_event().line))[-1] == "data"


def test_the_line_is_the_structured_mode_and_has_no_newline():
    event = make_event()
    assert event.encode() == event.line
    assert b"\n" not in event.line


def test_a_members_name_in_the_data_is_not_taken_for_an_attribute():
    event = make_event(data={"id": "wrong", "data": {"type": "wrong"}, "specversion": "wrong"})
    assert Event(event.line).id == event.id
    assert Event(event.line).type == event.type


@pytest.mark.parametrize("word", ["added", "modified", "deleted", "left"])
def test_the_change_is_the_last_word_of_the_type(word):
    assert make_event(type=f"io.kexport.object.{word}").change == word


def test_the_time_is_aware():
    assert make_event(time="2026-01-02T03:04:05.678901Z").time == datetime(
        2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC
    )
    assert make_event().time.utcoffset() == timedelta(0)


def test_the_key_is_the_partition_key():
    assert make_event(partitionkey="uid-1").key == "uid-1"


def test_a_line_that_is_no_event_raises_a_decode_error():
    with pytest.raises(msgspec.DecodeError):
        _ = Event(b'{"specversion":"1.0","data":{}}').attributes


def test_a_rejected_event_says_who_refused_it_and_why():
    rejected = make_event(3).rejected(sink="audit", reason='too "large"')
    again = Event(rejected.line).attributes
    assert (again.rejectedby, again.rejectedreason) == ("audit", 'too "large"')


def test_a_rejected_event_is_the_same_event_otherwise():
    event = make_event(3)
    rejected = event.rejected(sink="audit", reason="too large")
    assert (rejected.id, rejected.position, rejected.data_json) == (event.id, 3, event.data_json)
    before = msgspec.structs.replace(rejected.attributes, rejectedby="", rejectedreason="")
    assert before == event.attributes


def test_an_event_shows_itself_without_its_data():
    event = make_event(3, data={"object": {"password": "hunter2"}})
    assert repr(event) == f"<Event 3 {event.id}>"
