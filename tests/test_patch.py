"""What changed between two states: exact by an independent RFC 6902 implementation, and as people read it."""

import json
import random

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport.patch import Operation, between, covered
from kexport.paths import EVERY

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 2.5]),
    st.text("ab~/\n", max_size=3),
)
keys = st.sampled_from(["name", "a", "b", "a/b", "m~n", ""])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)
objects = st.dictionaries(keys, values, max_size=6)


def patch(before, after):
    found = between(json.dumps(before).encode(), json.dumps(after).encode())
    return [each.document for each in found]


def same(one, other):
    """Equal as JSON: Python takes 1, 1.0 and True for one."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@settings(max_examples=500)
@given(objects, objects)
def test_a_patch_leads_from_the_one_to_the_other(before, after):
    assert same(jsonpatch.apply_patch(before, patch(before, after)), after)


@given(objects)
def test_nothing_changed_is_no_operation(state):
    assert patch(state, json.loads(json.dumps(state))) == []


def changed(value, dice):
    """A state a few edits later: members and elements go, come, change and move."""
    if isinstance(value, dict):
        kept = {key: changed(each, dice) for key, each in value.items() if dice.random() > 0.05}
        return kept | ({f"new-{dice.randrange(9)}": dice.randrange(9)} if dice.random() < 0.1 else {})
    if isinstance(value, list):
        elements = [changed(each, dice) for each in value if dice.random() > 0.08]
        if dice.random() < 0.2:
            elements.insert(
                dice.randint(0, len(elements)), {"name": f"n{dice.randrange(99)}", "x": dice.random()}
            )
        if dice.random() < 0.1:
            dice.shuffle(elements)
        return elements
    return dice.choice([value, value, value, value, None, True, 1, "x", {"y": value}])


def pod(dice):
    def container(number):
        env = [{"name": f"E{n}", "value": str(dice.randrange(3))} for n in range(dice.randrange(6))]
        return {"name": f"c{number}", "image": f"i:{dice.randrange(5)}", "env": env, "ports": [80, 443]}

    return {
        "metadata": {
            "name": "p",
            "resourceVersion": str(dice.randrange(99)),
            "labels": {"a/b": "c", "d~e": ""},
        },
        "spec": {
            "containers": [container(n) for n in range(dice.randrange(1, 5))],
            "on": dice.random() < 0.5,
        },
        "status": {"conditions": [{"type": t, "status": dice.choice("TF")} for t in ("Ready", "Done")]},
    }


@pytest.mark.timeout(600)
def test_ten_thousand_pairs_of_pods():
    dice = random.Random(20_261_125)
    for _ in range(10_000):
        before = pod(dice)
        after = changed(before, dice) if dice.random() < 0.9 else pod(dice)
        assert same(jsonpatch.apply_patch(before, patch(before, after)), after), (before, after)


def test_a_container_that_was_put_first_is_one_addition():
    before = {"containers": [{"name": "web", "image": "w:1"}, {"name": "log", "image": "l:1"}]}
    after = {
        "containers": [{"name": "proxy"}, {"name": "web", "image": "w:2"}, {"name": "log", "image": "l:1"}]
    }
    assert patch(before, after) == [
        {"op": "replace", "path": "/containers/0/image", "value": "w:2"},
        {"op": "add", "path": "/containers/0", "value": {"name": "proxy"}},
    ]


def test_an_element_of_another_name_is_replaced_whole():
    assert patch({"x": [{"name": "a", "v": 1}]}, {"x": [{"name": "b", "v": 2}]}) == [
        {"op": "replace", "path": "/x/0", "value": {"name": "b", "v": 2}}
    ]


def test_a_value_that_became_null_is_a_replacement_by_null():
    assert patch({"a": 1}, {"a": None}) == [{"op": "replace", "path": "/a", "value": None}]


@pytest.mark.parametrize(
    ("before", "after"), [(1, True), (0, False), (1, 1.0), ("1", 1), (None, False), ([], {})]
)
def test_what_python_takes_for_equal_is_a_change_all_the_same(before, after):
    assert len(patch({"x": {"y": before}}, {"x": {"y": after}})) == 1


def test_the_old_value_of_each_operation_is_what_stood_there():
    before, after = b'{"a":1,"b":{"c":2},"d":[3]}', b'{"a":2,"b":{},"d":[3,4]}'
    assert between(before, after) == [
        Operation("replace", ("a",), 2, 1), Operation("remove", ("b", "c"), old=2),
        Operation("add", ("d", 1), 4),
    ]  # fmt: skip


def test_objects_nested_as_deep_as_kexport_keeps_them_are_compared():
    def nested(leaf):
        return b'{"a":' * 480 + leaf + b"}" * 480

    (operation,) = between(nested(b"1"), nested(b"2"))
    assert (len(operation.path), operation.value) == (480, 2)


def test_long_lists_are_compared_place_by_place():
    before = {"x": [{"name": str(n)} for n in range(3_000)]}
    after = {"x": before["x"][1:]}
    assert same(jsonpatch.apply_patch(before, patch(before, after)), after)


BEAT = ("status", "conditions", EVERY, "lastHeartbeatTime")
LEADER = ("metadata", "annotations", "leader")


def beat(**condition):
    return {"status": {"conditions": [condition]}}


def annotated(annotations):
    return {"metadata": {"annotations": annotations}}


@pytest.mark.parametrize(
    ("before", "after", "only_noise"),
    [
        (beat(lastHeartbeatTime=1), beat(lastHeartbeatTime=2), True),
        (beat(status=1), beat(status=2), False),
        ({"metadata": {}}, annotated({"leader": 1}), True),
        ({"metadata": {}}, annotated({"leader": 1, "x": 2}), False),
        (annotated({"leader": 1}), {"metadata": {}}, True),
        (annotated({"leader": {"a": 1}}), annotated({"leader": {"b": 1}}), True),
        (annotated(1), annotated({"leader": 1}), False),
        ({"status": 1}, {"status": 1}, True),
    ],
)
def test_noise_is_where_nothing_but_it_changed(before, after, only_noise):
    operations = between(json.dumps(before).encode(), json.dumps(after).encode())
    assert covered(operations, [BEAT, LEADER]) is only_noise
