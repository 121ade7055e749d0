"""Names of objects: where an event belongs, and that the same events always get the same name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kexport_s3.config import S3Config
from kexport_s3.folder import Folders
from kexport_s3.layout import Planned, plan

from kexport import ConfigError, Event
from kexport.testing import make_event

from .s3_arrangement import mixed

DEFAULT = S3Config(url="s3://lake").prefix


def folder(template: str, **attributes: Any) -> str:
    return Folders(template, name="lake").folder(make_event(1, **attributes))


def planned(events: list[Event], template: str = DEFAULT) -> list[Planned]:
    return plan(events, folders=Folders(template, name="lake"), ending="jsonl.zst", stored=set())


def test_the_usual_folders_are_cluster_resource_day_and_hour() -> None:
    assert folder(DEFAULT, time="2026-03-04T05:06:07.000001Z") == "test/configmaps/dt=2026-03-04/hour=05/"


def test_day_and_hour_are_in_utc() -> None:
    assert folder("{date}/{hour}", time="2026-03-04T01:30:00+02:00") == "2026-03-03/23/"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"cluster": "arn:aws:eks:eu:1:cluster/prod"}, "arn_aws_eks_eu_1_cluster_prod/configmaps/shop/"),
        ({"cluster": ".."}, "__/configmaps/shop/"),
        ({"objnamespace": ""}, "test/configmaps/_/"),
        ({"resource": "deployments.apps", "objnamespace": "a=b"}, "test/deployments.apps/a_b/"),
        ({"cluster": "größe"}, "gr__e/configmaps/shop/"),
    ],
)
def test_values_are_made_safe(attributes: dict[str, str], expected: str) -> None:
    assert folder("{cluster}/{resource}/{namespace}/", **attributes) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [("", ""), ("all", "all/"), ("k={kind}", "k=ConfigMap/"), ("{cluster}{cluster}/x", "testtest/x/")],
)
def test_a_template_may_be_anything_that_makes_folders(template: str, expected: str) -> None:
    assert folder(template) == expected


def test_values_together_cannot_climb_out_either() -> None:
    assert folder("{cluster}{resource}/", cluster=".", resource=".") == "__/"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{cluster", "is no template"),
        ("{name}", "unknown field {name}: there are {cluster}, {resource}"),
        ("{}", "unknown field {}"),
        ("{cluster!r}", "unknown field"),
        ("{hour:>3}", "unknown field"),
        ("a b/", "beside fields there may be"),
        ("a?/", "beside fields there may be"),
        ("/a/", "'/' stands between"),
        ("a//b", "'/' stands between"),
        ("a/../b", "'/' stands between"),
    ],
)
def test_a_wrong_template_is_refused_with_what_is_wrong(template: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        Folders(template, name="lake")
    assert str(caught.value).startswith("sinks.lake: prefix ")


def test_an_object_is_named_by_its_positions_and_its_content() -> None:
    (only,) = planned([make_event(number, position=number + 100) for number in (1, 2, 3)])
    assert re.fullmatch(
        r"test/configmaps/dt=2026-01-01/hour=00/0{17}101-0{17}103-[0-9a-f]{16}\.jsonl\.zst", only.path
    )
    assert planned([make_event(number, position=number + 100) for number in (1, 2, 3)])[0].path == only.path


def test_other_events_at_the_same_positions_get_another_name() -> None:
    whole, with_a_hole = planned([make_event(n) for n in (1, 2, 3)]), planned([make_event(n) for n in (1, 3)])
    other = planned([make_event(n, data={"object": {"n": n}}) for n in (1, 2, 3)])
    assert len({each[0].path for each in (whole, with_a_hole, other)}) == 3


def test_each_folder_gets_one_object_with_its_events_in_order() -> None:
    events = [*mixed(1, 9, "pods", "nodes", "jobs.batch"), make_event(10, time="2026-01-01T01:00:00Z")]
    found = planned(events)
    assert [each.start for each in found] == [0, 1, 2, 9]
    assert [[event.position for event in each.events] for each in found] == [
        [1, 4, 7], [2, 5, 8], [3, 6, 9], [10],
    ]  # fmt: skip


def test_names_sort_as_the_events_came() -> None:
    paths = [planned([make_event(n), make_event(n + 1)], "")[0].path for n in (1, 9, 99, 10**12)]
    assert paths == sorted(paths)


def test_what_is_stored_is_left_out() -> None:
    events = mixed(1, 6, "pods", "nodes")
    stored = {event.line for event in events if event.attributes.resource == "pods"}
    (left,) = plan(events, folders=Folders(DEFAULT, name="lake"), ending="jsonl", stored=stored)
    assert [event.position for event in left.events] == [1, 3, 5]
    assert left.path == planned(events)[0].path.removesuffix(".zst")
