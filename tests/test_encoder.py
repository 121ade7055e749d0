"""From a watch line to a CloudEvent: the same as the slow way, with the ids that the design promises."""

import copy
import json
import re
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport.change import ChangeType, Known, Metadata, Origin, Resource, Stream
from kexport.encoder import Encoder, dropped_events, now
from kexport.event import Event
from kexport.lines import decode_line, decode_metadata
from kexport.shape import Shaper

TIME = "2026-01-02T03:04:05.678901Z"
WIDGETS = Resource(group="shop.example", version="v1", name="widgets", kind="Widget", namespaced=True)
NODES = Resource(group="", version="v1", name="nodes", kind="Node", namespaced=False)
STREAM = Stream(resource=WIDGETS)
ENCODER = Encoder(STREAM, "prod-eu")
WEB = Metadata("web", "shop", "uid-1", "42")

IDENTITY = ["name", "namespace", "uid", "resourceVersion", "managedFields"]
keys = st.sampled_from(
    ["metadata", "managedFields", "data", 'qu"ote', "back\\slash", "\u2028", ""]
) | st.text(max_size=6)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
versions = st.integers(1, 10**20 - 1).map(str)
styles = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), ("\t,", " :\r")]),
    }
)
names = st.text("abc-.1", min_size=1, max_size=8)


@st.composite
def objects(draw):
    """A Kubernetes-like object, its members in any order and some of its metadata missing."""
    metadata = draw(st.dictionaries(keys.filter(lambda key: key not in IDENTITY), values, max_size=3))
    metadata |= {"name": draw(names), "resourceVersion": draw(versions), "uid": draw(st.uuids().map(str))}
    if draw(st.booleans()):
        metadata["namespace"] = draw(names)
    if draw(st.booleans()):
        metadata["managedFields"] = draw(values)
    members = draw(st.dictionaries(keys.filter(lambda key: key != "metadata"), values, max_size=3))
    members |= {"kind": "Widget", "apiVersion": "shop.example/v1", "metadata": _shuffled(draw, metadata)}
    return _shuffled(draw, members)


def _shuffled(draw, members):
    return dict(draw(st.permutations(list(members.items()))))


def encode(change, obj, style):
    """The fast way, as an informer goes it."""
    line = json.dumps({"type": "MODIFIED", "object": obj}, allow_nan=False, **style).encode()
    members = decode_line(line).object
    metadata = decode_metadata(members)
    shaped = Shaper("widgets.shop.example", b"key").shape(members)
    return ENCODER.change(change, metadata, shaped, origin=Origin.WATCH, time=TIME)


def encode_slowly(change, obj):
    """The same event by the official SDK, from the fully parsed object."""
    metadata = obj["metadata"]
    uid, version, namespace = metadata["uid"], metadata["resourceVersion"], metadata.get("namespace", "")
    ids = {ChangeType.DELETED: f"{uid}/deleted", ChangeType.LEFT: f"{uid}/{version}/left"}
    attributes = {
        "specversion": "1.0",
        "id": ids.get(change, f"{uid}/{version}"),
        "source": "/clusters/prod-eu/apis/shop.example/widgets",
        "type": f"io.kexport.object.{change}",
        "subject": f"{namespace}/{metadata['name']}" if namespace else metadata["name"],
        "time": datetime.fromisoformat(TIME),
        "datacontenttype": "application/json",
        "partitionkey": uid,
        "sequence": f"{int(version):020d}",
        "origin": "watch",
        "cluster": "prod-eu",
        "apiversion": "shop.example/v1",
        "kind": "Widget",
        "resource": "widgets.shop.example",
        "objname": metadata["name"],
        "resourceversion": version,
    } | ({"objnamespace": namespace} if namespace else {})
    kept = copy.deepcopy(obj)
    kept["metadata"].pop("managedFields", None)
    return JSONFormat().write(CloudEvent(attributes, {"object": kept}))


@settings(max_examples=200)
@given(st.sampled_from(ChangeType), objects(), styles)
def test_the_fast_way_says_what_the_slow_way_says(change, obj, style):
    assert json.loads(encode(change, obj, style).line) == json.loads(encode_slowly(change, obj))


@settings(max_examples=100)
@given(objects(), styles)
def test_an_object_comes_back_from_the_sdk_and_from_the_journal_alike(obj, style):
    event = encode(ChangeType.ADDED, obj, style)
    read = from_structured_event(HTTPMessage({"content-type": JSONFormat.CONTENT_TYPE}, event.line))
    again = Event(event.line)
    assert read.get_data() == again.data == event.data
    assert again.attributes == event.attributes


@settings(max_examples=50)
@given(objects(), styles)
def test_a_line_never_has_a_newline(obj, style):
    assert b"\n" not in encode(ChangeType.ADDED, obj, style).line


@settings(max_examples=50)
@given(objects(), styles)
def test_the_same_change_always_gives_the_same_bytes(obj, style):
    assert encode(ChangeType.ADDED, obj, style).line == encode(ChangeType.ADDED, obj, style).line


def change(kind, metadata=WEB, *, encoder=ENCODER):
    return encoder.change(kind, metadata, b"{}", origin=Origin.WATCH, time=TIME)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("added", "uid-1/42"),
        ("modified", "uid-1/42"),
        ("deleted", "uid-1/deleted"),
        ("left", "uid-1/42/left"),
    ],
)
def test_the_id_says_which_state_it_is(kind, expected):
    assert change(ChangeType(kind)).id == expected


def test_deletions_of_objects_without_uid_have_ids_of_their_own():
    # Some aggregated API servers give none; source and id together must be unique in CloudEvents.
    first, second = Metadata("a", "shop", "", "42"), Metadata("b", "shop", "", "43")
    assert change(ChangeType.DELETED, first).id != change(ChangeType.DELETED, second).id


def test_an_object_without_uid_is_partitioned_by_its_name():
    assert change(ChangeType.ADDED, Metadata("web", "shop", "", "42")).key == "shop/web"


@given(versions)
def test_the_sequence_is_the_version_in_twenty_digits(version):
    sequence = change(ChangeType.ADDED, Metadata("web", "shop", "uid-1", version)).attributes.sequence
    assert re.fullmatch(r"\d{20}", sequence)
    assert int(sequence) == int(version)


def test_the_core_group_is_named_in_the_source():
    event = change(
        ChangeType.ADDED, Metadata("n1", "", "u", "1"), encoder=Encoder(Stream(resource=NODES), "c")
    )
    assert event.source == "/clusters/c/apis/core/nodes"
    assert (event.subject, event.attributes.apiversion, event.attributes.objnamespace) == ("n1", "v1", "")


def test_a_vanished_object_says_what_the_index_knew():
    event = ENCODER.vanished(
        "shop/web", Known("uid-1", "42"), change=ChangeType.DELETED, version="99", time=TIME
    )
    assert event.data == {
        "object": {
            "kind": "Widget",
            "apiVersion": "shop.example/v1",
            "metadata": {"name": "web", "namespace": "shop", "uid": "uid-1", "resourceVersion": "42"},
        }
    }
    assert (event.attributes.origin, event.attributes.resourceversion) == ("resync", "99")
    assert (event.attributes.objnamespace, event.attributes.objname) == ("shop", "web")


def test_an_inferred_deletion_has_the_id_of_the_one_that_was_missed():
    inferred = ENCODER.vanished(
        "shop/web", Known("uid-1", "42"), change=ChangeType.DELETED, version="9", time=TIME
    )
    assert inferred.id == change(ChangeType.DELETED).id


def test_a_vanished_cluster_scoped_object_has_no_namespace():
    event = ENCODER.vanished("n1", Known("u", "1"), change=ChangeType.DELETED, version="9", time=TIME)
    assert event.subject == "n1"
    assert "namespace" not in event.data["object"]["metadata"]


def test_a_gap_says_from_where_to_where_and_why():
    event = ENCODER.gap("5", "9", reason="expired", added=1)
    assert event.type == "io.kexport.stream.gap"
    said = event.data["object"]
    assert said == {
        "stream": STREAM.key, "resourceVersion": "9", "from": "5", "to": "9", "reason": "expired", "added": 1,
    }  # fmt: skip
    assert (event.subject, event.attributes.sequence) == (STREAM.key, "9".zfill(20))


def test_a_snapshots_end_says_at_which_version_it_is_complete():
    event = ENCODER.synced("9", origin=Origin.SNAPSHOT, objects=3)
    assert (event.change, event.attributes.origin) == ("synced", "snapshot")
    assert event.data["object"] == {"stream": STREAM.key, "resourceVersion": "9", "objects": 3}


@pytest.mark.parametrize(
    "event",
    [
        ENCODER.gap("5", "9"),
        ENCODER.synced("9", origin=Origin.RESYNC),
        dropped_events("c", "a", reason="journal-full", dropped=2, until=7),
    ],
)
def test_events_about_streams_and_lanes_are_cloudevents_too(event):
    read = from_structured_event(HTTPMessage({"content-type": JSONFormat.CONTENT_TYPE}, event.line))
    assert (read.get_id(), read.get_type()) == (event.id, event.type)
    assert Event(event.line).attributes == event.attributes


def test_dropped_events_are_a_gap_for_the_one_sink():
    event = dropped_events("prod-eu", "audit", reason="journal-full", dropped=12, until=99)
    assert (event.change, event.subject, event.position) == ("gap", "audit", 99)
    assert event.data["object"]["dropped"] == 12


def test_the_time_of_observation_is_utc_to_the_microsecond():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", now())
    assert abs((datetime.now(UTC) - datetime.fromisoformat(now())).total_seconds()) < 5
