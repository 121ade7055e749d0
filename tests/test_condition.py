"""A condition answers as on the whole object, reads no more than it names, and never breaks a lane."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport import cel, condition, fields
from kexport.cel import UndecidedError
from kexport.condition import Where
from kexport.event import Attributes, Event
from kexport.testing import make_event

ROOT = Path(__file__).parent.parent
POD: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {"name": "web-1", "labels": {"team": "shop", "example.com/tier": "1"}, "annotations": None},
    "spec": {
        "replicas": 5,
        "ratio": 1.5,
        "paused": True,
        "nothing": None,
        "containers": [
            {"name": "web", "image": "shop/web:1", "env": [{"name": "A"}]},
            {"name": "log", "image": "log:2"},
        ],
    },
    "status": {"phase": "Running"},
}


def event(obj: Any = POD, number: int = 1) -> Event:
    data = obj if "object" in obj else {"object": obj}
    return make_event(number, data=data)


EXPRESSIONS = [
    "object.spec.replicas > 3",
    "object.spec.replicas > 3.5",
    "object.spec.ratio == 1.5",
    "object.spec.paused",
    "object.spec.nothing == null",
    "object.metadata.labels.team == 'shop'",
    "object.metadata.labels['example.com/tier'] in ['1', '2']",
    "'team' in object.metadata.labels",
    "has(object.metadata.labels.team)",
    "has(object.spec.missing)",
    "object.spec.missing == 1",
    "has(object.metadata.annotations.x)",
    "object.spec.?missing.orValue(7) == 7",
    "object.?spec.?replicas.orValue(1) == 5",
    "object.spec.containers.exists(c, c.image.startsWith('shop/'))",
    "object.spec.containers.all(c, has(c.env))",
    "object.spec.containers.filter(c, c.name == 'log').size() == 1",
    "object.spec.containers.map(c, c.name) == ['web', 'log']",
    "object.spec.containers.exists_one(c, c.env.exists(e, e.name == 'A'))",
    "object.spec.containers.exists(object, object.name == 'log')",
    "object.spec.containers[1].name == 'log'",
    "object.spec.containers[7].name == 'log'",
    "object.metadata.labels.exists(k, object.metadata.labels[k] == 'shop')",
    "object.metadata.labels.exists(k, k.startsWith('example.com/'))",
    "size(object.spec.containers) == 2",
    "size(object) == 4",
    "object.spec.replicas.deep == 1",
    "object.spec.containers.name == 'web'",
    "object.kind.startsWith('P') && object.status.phase == 'Running'",
    "has(object.status.x) || object.spec.replicas == 5",
    "object.spec.missing == 1 || object.spec.replicas == 5",
    "object.spec.replicas + 'a' == 'b'",
    "object.spec.replicas / (object.spec.replicas - 5) == 1",
    "object.spec.replicas",
    "{'a': object.spec.replicas}.a == 5",
    "[object.spec.replicas, 1].exists(x, x == 5)",
    "timestamp(event.time) > timestamp('2020-01-01T00:00:00Z')",
    "event.change == 'modified' && event.namespace == 'shop' && event.name == event.objname",
    "size(event) > 10",
    "event.exists(name, name == 'change')",
    "object.exists(name, name == 'spec')",
    "has(previous.spec)",
    "previous.spec.replicas < object.spec.replicas",
    "true",
]


def answer(ask: Any) -> Any:
    try:
        return ask()
    except UndecidedError as error:
        return str(error)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_answer_is_that_on_the_whole_object(text):
    """A pruned object must not be another object, for any expression."""
    before = {"spec": {"replicas": 4}}
    samples: list[dict[str, dict[str, Any]]] = [
        {"object": POD},
        {"object": POD, "previous": before},
        {"object": {"spec": []}},
        {"object": {}},
    ]
    for data in samples:
        each = event(data)
        whole = {
            "object": data["object"],
            "previous": data.get("previous", {}),
            "event": {name: condition._attribute(each, name) for name in cel.ATTRIBUTES},
        }
        expected = answer(lambda whole=whole: cel.compile(text).holds(whole))
        assert answer(lambda each=each: Where(text).holds(each)) == expected


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["spec", "replicas", "containers", "name", "image", "x"]), inner)
    ),
    max_leaves=10,
)
STRUCTURED = [text for text in EXPRESSIONS if "object" in text]


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["spec", "metadata", "kind"]), json_values), st.sampled_from(STRUCTURED)
)
def test_any_object_gives_an_answer_or_is_undecided(obj, text):
    whole = msgspec.json.decode(msgspec.json.encode(obj))
    expected = answer(lambda: cel.compile(text).holds({"object": whole, "previous": {}}))
    assert answer(lambda: Where(text).holds(event({"object": obj}))) == expected


def test_every_attribute_of_an_event_can_be_asked_for():
    left_out = {
        "specversion",
        "datacontenttype",
        "rejectedby",
        "rejectedreason",
    }  # always the same, or absent
    assert set(Attributes.__struct_fields__) - left_out <= set(cel.ATTRIBUTES)
    for name in cel.ATTRIBUTES:
        assert not Where(f"event.{name} == 'another'").holds(event())


def test_a_reason_has_no_value_of_the_object_in_it():
    secrets = {"spec": {"big": 2**70, "key": "s3cr3t", "s3cr3t": 1}, "data": {}}
    for text in ("object.spec.big == 1", "object.data[object.spec.key] == 1", "object.spec.key + 1 == 2"):
        with pytest.raises(UndecidedError) as caught:
            Where(text).holds(event(secrets))
        assert "s3cr3t" not in str(caught.value)
        assert str(2**70) not in str(caught.value)


def test_a_number_that_the_evaluator_cannot_hold_disturbs_only_who_asks_for_it():
    big = {"spec": {"replicas": 5, "big": 2**70}}
    assert Where("object.spec.replicas > 3").holds(event(big))
    with pytest.raises(UndecidedError, match="a value is missing or cannot be used"):
        Where("object.spec.big > 3").holds(event(big))


def reads(text: str) -> dict[str, Any]:
    program = cel.compile(text)
    return {name: tree if not tree.whole else "whole" for name, tree in program.reads.items()}


def test_only_what_the_expression_names_is_decoded():
    where = Where("object.spec.containers.exists(c, c.image == 'x') && object.metadata.labels['a/b'] == 'c'")
    assert where._decoder
    assert where._decoder.decode(event().line)["data"] == {
        "object": {
            "metadata": {"labels": {}},
            "spec": {"containers": [{"image": "shop/web:1"}, {"image": "log:2"}]},
        }
    }


def test_an_expression_over_attributes_looks_into_no_data():
    line = event().line.partition(b'"data":')[0] + b'"data":unreadable}'
    attributes = event().attributes
    assert Where("event.change == 'modified'").holds(Event(line, attributes=attributes))


def test_data_that_cannot_be_read_is_undecided():
    line = event().line.partition(b'"data":')[0] + b'"data":unreadable}'
    with pytest.raises(UndecidedError, match="the object cannot be read"):
        Where("object.spec.x == 1").holds(Event(line, attributes=event().attributes))


def test_a_name_that_is_used_whole_is_decoded_whole():
    assert reads("object == previous") == {"object": "whole", "previous": "whole"}
    assert reads("object.a[object.b] == 1")["object"]["a"].whole


def test_those_who_ask_the_same_of_one_event_share_the_answer(monkeypatch):
    where = Where("object.spec.replicas > 3")
    asked: list[Event] = []
    ask = where._ask

    def counted(each):
        asked.append(each)
        return ask(each)

    monkeypatch.setattr(where, "_ask", counted)
    assert where.holds(event(number=1))
    assert where.holds(event(number=1))
    assert len(asked) == 1
    for number in range(2, condition.MOST_ANSWERS + 10):
        where.holds(event(number=number))
    assert len(where._answers) <= condition.MOST_ANSWERS


def test_labels_are_read_alone_and_may_be_absent():
    assert condition.labels_of(event()) == {"team": "shop", "example.com/tier": "1"}
    bare: list[dict[str, Any]] = [{}, {"metadata": {}}, {"metadata": {"labels": None}}]
    for obj in bare:
        assert condition.labels_of(event({"object": obj})) == {}
    with pytest.raises(UndecidedError, match=r"metadata\.labels cannot be read"):
        condition.labels_of(event({"metadata": {"labels": "hmac-sha256:00"}}))


def test_the_reader_of_compiled_expressions_knows_varints_of_any_length():
    assert fields._varint(b"\xac\x02", 0) == (300, 2)


def test_nobody_waits_for_the_evaluator_without_a_condition():
    code = (
        "import sys\nfrom kexport import engine\nprint([m for m in sys.modules if m.startswith('cel_expr')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "[]\n"
