"""A complete listing against the index: what was inferred, and that it leads from the one to the other."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport.change import Known, Resource, Stream
from kexport.diff import PORTION, portions
from kexport.encoder import Encoder
from kexport.lines import decode_line
from kexport.places import Resync
from kexport.shape import Shaper
from kexport.snapshot import Snapshot

MAPS = Resource(group="", version="v1", name="configmaps", kind="ConfigMap", namespaced=True)
STREAM = Stream(resource=MAPS)
SHAPER = Shaper("configmaps", b"key")

names = st.sampled_from(["default/a", "default/b", "shop/a", "shop/b", "shop/c", "node-1"])
states = st.dictionaries(
    names, st.builds(Known, st.sampled_from(["u1", "u2"]), st.sampled_from(["1", "2", "3"]))
)


def unique(index):
    """The same with uids that belong to one name only, as they do in a cluster."""
    return {key: Known(f"{key}-{known.uid}", known.version) for key, known in index.items()}


def members(key, known):
    namespace, _, name = key.rpartition("/")
    metadata = {"name": name, "uid": known.uid, "resourceVersion": known.version}
    obj = {"kind": "ConfigMap", "metadata": metadata | ({"namespace": namespace} if namespace else {})}
    return decode_line(json.dumps({"type": "ADDED", "object": obj}).encode()).object


def diff(before, after, *, first=False, stream=STREAM, meanwhile=()):
    """The portions of a listing of `after`; `meanwhile` are (method, key, known) while it was listed."""
    with Snapshot(stream, SHAPER, before) as snapshot:
        for key, known in after.items():
            snapshot.add(members(key, known))
        for method, key, known in meanwhile:
            getattr(snapshot, method)(members(key, known))
        snapshot.version = "99"
        return list(portions(snapshot, Encoder(stream, "c"), first=first))


def events(found):
    return [event for portion in found for event in portion.events]


def said(found):
    return [(event.change, event.subject) for event in events(found)]


def apply(index, found):
    """A consumer's model of what exists: uid -> (name, version)."""
    model = {known.uid: (key, known.version) for key, known in index.items()}
    for event in events(found):
        uid = event.key
        if event.change == "deleted":
            del model[uid]
        else:
            assert (event.change == "added") == (uid not in model)
            model[uid] = (event.subject, event.attributes.resourceversion)
    return model


@settings(max_examples=300)
@given(states, states)
def test_the_events_lead_from_the_old_state_to_the_listing(before, after):
    before, after = unique(before), unique(after)
    assert apply(before, diff(before, after)) == apply(after, [])


@settings(max_examples=300)
@given(states, states)
def test_the_portions_lead_the_index_to_the_listing(before, after):
    before, after = unique(before), unique(after)
    index = dict(before)
    for portion in diff(before, after):
        index |= portion.objects
    assert {key: known for key, known in index.items() if known} == after


@settings(max_examples=200)
@given(states, states, st.lists(st.tuples(names, st.sampled_from(["replace", "remove", "add"])), max_size=6))
def test_changes_during_the_listing_are_part_of_it(before, after, changes):
    before, now = unique(before), unique(after)
    listed, meanwhile = dict(now), []
    for version, (key, method) in enumerate(changes, start=10):
        known = now.get(key)
        if (method == "add") != (known is None):
            continue  # only what is not there can be added, only what is there can change or go
        state = Known(known.uid if known else f"{key}-{version}", str(version))
        meanwhile.append((method, key, state))
        if method == "remove":
            del now[key]
        else:
            now[key] = state
    assert apply(before, diff(before, listed, meanwhile=meanwhile)) == apply(now, [])


@settings(max_examples=100)
@given(states, states)
def test_a_portion_counts_what_it_says(before, after):
    found = diff(unique(before), unique(after))
    changes = [event.change for event in events(found)]
    counted = (sum(p.added for p in found), sum(p.modified for p in found), sum(p.deleted for p in found))
    assert counted == (changes.count("added"), changes.count("modified"), changes.count("deleted"))


@given(states)
def test_a_listing_of_what_is_known_says_nothing(index):
    assert said(diff(index, index)) == []


def test_deletions_come_first():
    found = diff(
        {"shop/z": Known("z", "1"), "shop/b": Known("b", "1")},
        {"shop/a": Known("a", "2"), "shop/b": Known("b", "2")},
    )
    assert said(found) == [("deleted", "shop/z"), ("added", "shop/a"), ("modified", "shop/b")]


def test_an_object_made_again_under_its_name_is_a_deletion_and_an_addition():
    found = diff({"shop/a": Known("old", "1")}, {"shop/a": Known("new", "5")})
    assert said(found) == [("deleted", "shop/a"), ("added", "shop/a")]
    assert [event.id for event in events(found)] == ["old/deleted", "new/5"]
    assert [portion.objects for portion in found if portion.objects] == [{"shop/a": Known("new", "5")}]


def test_an_object_made_again_while_it_was_listed_is_both_as_well():
    old, new = Known("old", "1"), Known("new", "5")
    meanwhile = [("remove", "shop/a", old), ("add", "shop/a", new)]
    found = diff({"shop/a": old}, {"shop/a": old}, meanwhile=meanwhile)
    assert said(found) == [("deleted", "shop/a"), ("added", "shop/a")]


def test_namespaces_that_are_not_wanted_are_no_difference():
    stream = Stream(resource=MAPS, only_namespaces=("shop-*",))
    listed = {"shop-1/a": Known("a", "1"), "web/b": Known("b", "1")}
    gone = [("remove", "web/b", Known("b", "1"))]
    assert said(diff({}, listed, stream=stream, meanwhile=gone)) == [("added", "shop-1/a")]


def test_with_a_selector_what_is_missing_has_left():
    stream = Stream(resource=MAPS, label_selector="a=b")
    (event,) = events(diff({"shop/a": Known("u", "1")}, {}, stream=stream))
    assert (event.change, event.id) == ("left", "u/99/left")


def test_with_a_selector_the_former_owner_of_a_name_has_left():
    stream = Stream(resource=MAPS, field_selector="a=b")
    found = diff({"shop/a": Known("old", "1")}, {"shop/a": Known("new", "5")}, stream=stream)
    assert said(found) == [("left", "shop/a"), ("added", "shop/a")]


@pytest.mark.parametrize(("first", "origin"), [(True, "snapshot"), (False, "resync")])
def test_the_first_listing_is_no_comparison(first, origin):
    (event,) = events(diff({}, {"shop/a": Known("u", "1")}, first=first))
    assert (event.change, event.attributes.origin) == ("added", origin)


def test_the_same_listing_gives_the_same_ids():
    before, after = {"shop/a": Known("a", "1")}, {"shop/b": Known("b", "2")}
    assert [e.id for e in events(diff(before, after))] == [e.id for e in events(diff(before, after))]


def test_no_portion_is_larger_than_one_commit_takes():
    before = {f"shop/old-{n}": Known(f"old-{n}", "1") for n in range(PORTION + 1)}
    after = {f"shop/new-{n}": Known(f"new-{n}", "1") for n in range(2 * PORTION + 1)}
    found = diff(before, after)
    sizes = [len(portion.objects) for portion in found if portion.objects]
    assert sum(sizes) == len(before) + len(after)
    assert max(sizes) <= PORTION


def test_a_portion_adds_to_the_counts_of_its_comparison():
    (portion, *_) = diff({"shop/a": Known("a", "1")}, {})
    counted = portion.added_to(Resync(reason="expired", added=1, modified=2, deleted=3))
    assert (counted.added, counted.modified, counted.deleted) == (1, 2, 4)
    assert counted.reason == "expired"
