"""Refusals that help: which key, what it may have been meant to be, and where it stands."""

from typing import Annotated

import msgspec
import pytest

from kexport.errors import ConfigError, placed
from kexport.settings import check_keys, nearest, reword


class Inner(msgspec.Struct, frozen=True):
    max_events: Annotated[int, msgspec.Meta(ge=1)] = 1


class Outer(msgspec.Struct):
    topic: str = ""
    batch: Inner | None = None
    described: Annotated[Inner, msgspec.Meta(description="…")] = Inner()
    listed: tuple[Annotated[Inner, msgspec.Meta(description="…")], ...] = ()
    named: dict[str, str] = {}
    source: str = msgspec.field(name="from", default="")


def refusal(table, *, place=""):
    with pytest.raises(ConfigError) as caught:
        check_keys(table, Outer, place=place)
    return str(caught.value)


def test_known_keys_pass():
    check_keys({"topic": "t", "batch": {"max_events": 1}, "listed": [{"max_events": 1}]}, Outer, place="")


def test_an_unknown_key_is_refused_with_place_suggestion_and_what_is_known():
    message = refusal({"topik": "t"}, place="sinks.audit")
    assert message.startswith("sinks.audit: unknown key 'topik', did you mean 'topic'?; known: topic, batch")


def test_an_unknown_key_at_the_top_has_no_place():
    assert refusal({"topik": "t"}).startswith("unknown key 'topik', did you mean 'topic'?")


def test_a_key_like_no_other_gets_no_suggestion():
    assert "did you mean" not in refusal({"xyzzy": 1})


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ({"batch": {"max_event": 1}}, "batch"),
        ({"described": {"max_event": 1}}, "described"),
        ({"listed": [{}, {"max_event": 1}]}, "listed[1]"),
    ],
)
def test_an_unknown_key_at_any_depth_is_refused_with_its_place(table, place):
    assert refusal(table).startswith(f"{place}: unknown key 'max_event', did you mean 'max_events'?")
    assert refusal(table, place="sinks.a").startswith(f"sinks.a.{place}: unknown key 'max_event'")


def test_the_keys_of_a_free_table_are_free():
    check_keys({"named": {"anything.at": "all"}}, Outer, place="")


def test_a_wrong_type_is_left_to_the_conversion():
    check_keys({"batch": 3, "listed": "text"}, Outer, place="")
    check_keys([], Outer, place="")


def test_a_setting_is_known_by_the_name_it_has_in_the_file():
    check_keys({"from": "x"}, Outer, place="")


def test_the_nearest_word_is_suggested():
    assert nearest("kafak", ["file", "kafka"]) == ", did you mean 'kafka'?"
    assert nearest("xyzzy", ["file", "kafka"]) == ""
    assert nearest("kafka", []) == ""


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"topic": 1}, "here.topic: expected a string, got an integer"),
        ({"batch": {"max_events": "1"}}, "here.batch.max_events: expected an integer, got a string"),
        ({"listed": [{}, {"max_events": 0}]}, "here.listed[1].max_events: expected an integer >= 1"),
        ({"batch": 3}, "here.batch: expected a table or nothing, got an integer"),
        ("text", "here: expected a table, got a string"),
    ],
)
def test_a_conversions_complaint_begins_with_its_place(value, problem):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Outer)
    assert reword(str(caught.value), "here") == problem


def test_a_complaint_about_a_list_at_the_top_is_joined_without_a_dot():
    assert (
        reword("Expected `int`, got `str` - at `$[0].a`", "here")
        == "here[0].a: expected an integer, got a string"
    )


def test_a_complaint_without_any_place_is_just_the_problem():
    assert reword("Object missing required field `resources`", "") == "the key 'resources' is missing"


def test_an_errors_place_stands_before_it_once():
    assert placed("sinks.a", ConfigError("no topic")) == "sinks.a: no topic"
    assert placed("sinks.a", ConfigError("sinks.a: no topic")) == "sinks.a: no topic"
    assert placed("sinks.a", ConfigError("sinks.a.topic: empty")) == "sinks.a.topic: empty"
    assert placed("sinks.a", ConfigError("sinks.ab: no topic")) == "sinks.a: sinks.ab: no topic"
