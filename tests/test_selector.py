"""Label selectors mean here what they mean to kubectl and to the API server."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexport.errors import ConfigError
from kexport.selector import SelectorError, admits, parse
from kexport.testing.kinds import PODS
from kexport.testing.selectors import select

keys = st.sampled_from(["app", "team", "tier", "example.com/team", "n"])
words = st.sampled_from(["web", "api", "1", "2", "10", "", "in", "a_b.c-d"])
labels = st.dictionaries(keys, words, max_size=5)
spaces = st.sampled_from(["", " ", "  "])


@st.composite
def requirements(draw):
    """A requirement as text, and what it means."""
    key, values = draw(keys), draw(st.lists(words, min_size=1, max_size=3))
    one, gap = values[0], draw(spaces)
    number = draw(st.integers(0, 12))
    forms = [
        (key, lambda found: key in found),
        (f"!{gap}{key}", lambda found: key not in found),
        (f"{key}{gap}={gap}{one}", lambda found: found.get(key) == one),
        (f"{key}=={one}", lambda found: found.get(key) == one),
        (f"{key}{gap}!={one}", lambda found: found.get(key) != one),
        (
            f"{key}{gap}>{gap}{number}",
            lambda found: found.get(key, "").isdigit() and int(found[key]) > number,
        ),
        (f"{key}<{number}", lambda found: found.get(key, "").isdigit() and int(found[key]) < number),
    ]
    if values != [""]:
        listed = f",{gap}".join(values)
        forms += [
            (f"{key} in{gap}({gap}{listed}{gap})", lambda found: found.get(key) in values),
            (f"{key} notin ({listed})", lambda found: key not in found or found[key] not in values),
        ]
    return draw(st.sampled_from(forms))


@settings(max_examples=300)
@given(st.lists(requirements(), max_size=4), labels, spaces)
def test_a_selector_admits_what_meets_every_requirement(found, given_labels, gap):
    text = f"{gap},{gap}".join(text for text, _ in found)
    expected = all(meant(given_labels) for _, meant in found)
    assert admits(parse(text), given_labels) == expected
    # FakeCluster, which is held to the real API server, selects the same objects.
    fake = select(PODS, label_selector=text)
    assert fake.admits({"metadata": {"labels": given_labels}}) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("app=", None),
        ("app in (a,)", None),
        ("x in(a)", None),
        ("app web", "found 'web' where in, notin, =, ==, !=, < or > belongs"),
        ("app=a=b", "found '=' where , or the end belongs"),
        ("app in a", "found 'a' where ( belongs"),
        ("app in (a", "found its end where , or ) belongs"),
        ("app in ()", "found ')' where a value belongs"),
        ("app=a,", "found its end where a label's name belongs"),
        (",app", "found ',' where a label's name belongs"),
        ("in=a", "found 'in' where a label's name belongs"),
        ("app=ünder", "where a label's value (at most 63 letters, digits, -, _ and .) belongs"),
        ("app=" + "a" * 64, "where a label's value"),
        ("Example.com/app", "found 'Example.com/app' where a label's name belongs"),
        ("-app", "where a label's name belongs"),
        ("n>x", "found 'x' where a whole number belongs"),
        ("!app=web", "found '=' where , or the end belongs"),
    ],
)
def test_what_nobody_can_understand_is_refused_and_shown(text, problem):
    if problem is None:
        parse(text)
        return
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"label selector {text!r}: found ")
    assert problem in str(caught.value)


@settings(max_examples=300)
@given(st.text("ab=!,()<> /in", max_size=12))
def test_any_text_is_a_selector_or_a_config_error(text):
    with suppress(ConfigError):
        found = parse(text)
        assert admits(found, {"a": "b"}) in {True, False}
        assert not admits((*found, *parse("a, !a")), {"a": "b"})
