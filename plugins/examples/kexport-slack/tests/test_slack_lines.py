"""What people read: each kind of event, what is known of the state before, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from kexport_slack.line import line_of
from kexport_slack.memory import Draft, Known, Memory
from kexport_slack.state import State, changes, state_of

from kexport import Event
from kexport.testing import make_event

from .slack_arrangement import deployment, gap, told

READY = {"conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]}
NOT_READY = {"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]}

CONTAINER = {"name": "app", "image": "web:1"}


def texts(*events: Event, quiet: bool = True) -> list[str]:
    """The lines of one message."""
    draft = Draft(Memory(100))
    lines = [line_of(event, draft, quiet=quiet) for event in events]
    return [line.text for line in lines if line]


def test_a_modification_is_told_by_the_previous_state_that_it_carries() -> None:
    data = {"object": deployment("web:1.5", replicas=5), "previous": deployment()}
    assert texts(told(2, "modified", data=data)) == ["Deployment shop/web: image 1.4 → 1.5, replicas 3 → 5"]


def test_a_modification_is_told_by_what_is_remembered() -> None:
    lines = texts(
        told(1, "added"),
        told(2, "modified", deployment("web:1.5")),
        told(3, "modified", deployment("web:1.6")),
    )
    assert lines == [
        "Deployment shop/web: added, image web:1.4, replicas 3",
        "Deployment shop/web: image 1.4 → 1.5",
        "Deployment shop/web: image 1.5 → 1.6",
    ]


def test_the_first_listing_is_remembered_though_it_is_not_told() -> None:
    listed = told(1, "added", origin="snapshot")
    assert texts(listed) == []
    assert texts(listed, quiet=False) == ["Deployment shop/web: exists, image web:1.4, replicas 3"]
    assert texts(listed, told(2, "modified", deployment(replicas=0))) == [
        "Deployment shop/web: replicas 3 → 0"
    ]


def test_without_a_state_before_only_the_present_one_is_told() -> None:
    assert texts(told(2, "modified")) == [
        "Deployment shop/web: modified (what it was before is not known), image web:1.4, replicas 3"
    ]


@pytest.mark.parametrize(
    ("path", "visible"),
    [
        ("", True),  # JSON Pointer's name of the whole object
        ("/spec", True),
        ("/spec/replicas", True),
        ("/spec/template/spec/containers", True),
        ("/spec/template/spec/containers/0", True),
        ("/spec/template/spec/containers/0/image", True),
        ("/spec/template/spec/containers/0/env/0/value", False),
        ("/spec/template/metadata/labels/a", False),
        ("/spec/jobTemplate/spec/template/spec/initContainers/1/image", True),
        ("/spec/paused", False),
        ("/status/conditions/1/status", True),
        ("/status/conditions/1/lastUpdateTime", False),
        ("/status/observedGeneration", False),
        ("/metadata/resourceVersion", False),
    ],
)
def test_a_patch_alone_says_whether_there_is_something_to_see(path: str, visible: bool) -> None:
    data = {"object": deployment(), "patch": [{"op": "replace", "path": path, "value": 1}]}
    line = "Deployment shop/web: modified, now image web:1.4, replicas 3"
    assert texts(told(2, "modified", data=data)) == ([line] if visible else [])


def test_no_visible_difference_is_no_line_unless_wanted() -> None:
    events = told(1, "added"), told(2, "modified", deployment(status={"observedGeneration": 7}))
    assert len(texts(*events)) == 1
    assert texts(*events, quiet=False)[1] == "Deployment shop/web: modified"


def test_deletions_and_objects_that_left() -> None:
    assert texts(told(3, "deleted")) == ["Deployment shop/web: deleted"]
    assert texts(told(3, "deleted", origin="resync")) == ["Deployment shop/web: deleted (seen by comparing)"]
    assert texts(told(3, "left", id="uid-web/3/left")) == [
        "Deployment shop/web: is deleted, or no longer selected"
    ]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"image": "r:5000/a:1"}, {"image": "r:5000/a:2"}, ["image 1 → 2"]),
        ({"image": "r:5000/a"}, {"image": "r:5000/a:2"}, ["image r:5000/a → r:5000/a:2"]),
        ({"image": "a:1"}, {"image": "b:1"}, ["image a:1 → b:1"]),
        ({"image": "a@sha256:1"}, {"image": "a@sha256:2"}, ["image sha256:1 → sha256:2"]),
        ({"image": "a:1@sha256:1"}, {"image": "a:1@sha256:2"}, ["image 1@sha256:1 → 1@sha256:2"]),
        ({}, {"status": READY}, ["ready none → yes"]),
        ({"status": READY}, {"status": NOT_READY}, ["ready yes → no (ContainersNotReady)"]),
        ({}, {"annotations": {"kubernetes.io/change-cause": "roll"}}, []),
        (
            {},
            {"replicas": 4, "annotations": {"kubernetes.io/change-cause": "roll"}},
            ["replicas 3 → 4", "cause: roll"],
        ),
        (
            {"annotations": {"kubernetes.io/change-cause": "roll"}},
            {"replicas": 4, "annotations": {"kubernetes.io/change-cause": "roll"}},
            ["replicas 3 → 4"],
        ),
        (
            {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]},
            {"containers": [{"name": "a", "image": "a:2"}, {"name": "c", "image": "c:1"}]},
            ["image of a 1 → 2", "container c added, image c:1", "container b removed"],
        ),
    ],
)
def test_what_is_visible_of_a_change(before: dict[str, Any], after: dict[str, Any], words: list[str]) -> None:
    assert changes(state_of(deployment(**before)), state_of(deployment(**after))) == words


@pytest.mark.parametrize(
    "obj",
    [
        {"spec": {"containers": [CONTAINER]}},
        {"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [CONTAINER]}}}}}},
        {"spec": {"initContainers": [CONTAINER], "containers": []}},
    ],
)
def test_images_are_found_in_pods_and_cronjobs(obj: dict[str, Any]) -> None:
    assert state_of(obj).images == {"app": "web:1"}


@pytest.mark.parametrize(
    "obj",
    [
        None,
        1,
        [],
        {},
        {"spec": 1},
        {"spec": {"containers": {}, "replicas": "3"}},
        {"status": {"conditions": [1]}},
    ],
)
def test_an_object_of_any_shape_has_a_state(obj: object) -> None:
    assert state_of(obj) == State()


def test_who_did_it_is_told_when_the_event_knows() -> None:
    event = told(1, "added")
    line = event.line.replace(b'"origin":', b'"manager":"kubectl-client-side-apply","origin":')
    assert texts(Event(line)) == [
        "Deployment shop/web: added, image web:1.4, replicas 3, by kubectl-client-side-apply"
    ]


@pytest.mark.parametrize(
    ("details", "words"),
    [
        (
            {"added": 3, "modified": 1, "deleted": 2, "recovered": 4, "complete": False},
            "4 changes read back; inferred: 3 added and 1 modified and 2 deleted; changes may be missing",
        ),
        (
            {"recovered": 4, "complete": True},
            "4 changes read back; nothing is missing",
        ),
    ],
)
def test_a_gap_is_told_with_all_that_is_known_of_it(details: dict[str, Any], words: str) -> None:
    line = line_of(gap(**details), Draft(Memory(1)), quiet=True)
    beginning = "GAP in pods/*: expired; history from 100 to 200 was not seen live; "
    assert line == (beginning + words, True)


def test_other_news_of_streams_are_loud_and_the_end_of_a_listing_is_not_told() -> None:
    rollback = make_event(1, type="io.kexport.stream.rollback", subject="pods/*")
    line = line_of(rollback, Draft(Memory(1)), quiet=True)
    assert line == ("ROLLBACK of pods/*, see kexport's log", True)
    synced = make_event(1, type="io.kexport.stream.synced", subject="pods/*")
    assert texts(synced) == []
    assert texts(synced, quiet=False) == ["pods/*: everything that exists has been listed"]


def test_what_another_sink_refused_is_told_even_of_an_event_told_before() -> None:
    event = told(1, "added")
    refused = event.rejected(sink="kafka", reason="too large")
    assert texts(event, refused)[1] == "Deployment shop/web: added, refused by kafka: too large"


def test_the_same_event_is_told_once_and_an_older_one_is_not_compared_with_newer_states() -> None:
    first, second = told(1, "modified", deployment("web:1")), told(2, "modified", deployment("web:2"))
    lines = texts(first, second, second, first)
    assert lines[1:] == [
        "Deployment shop/web: image 1 → 2",
        "Deployment shop/web: modified (what it was before is not known), image web:1, replicas 3",
    ]
    assert texts(first, first, quiet=False)[1] == "Deployment shop/web: told again"


def test_a_line_is_one_line_of_bounded_length() -> None:
    (line,) = texts(told(1, "added", deployment("web:" + "x" * 1000), subject="shop/a\nb"))
    assert len(line) == 400
    assert line.startswith("Deployment shop/a b: added")


def test_memory_is_bounded_and_forgets_what_was_looked_at_longest_ago() -> None:
    memory = Memory(2)
    for name in ("a", "b", "a", "c"):
        memory.keep({name: Known(State(), name, "1")})
    assert (len(memory), memory.get("b")) == (2, None)
    assert memory.get("a")
    assert memory.get("c")
