"""Anything at all goes in; only what is documented comes out. Seeded, so that a failure repeats."""

from __future__ import annotations

import copy
import itertools
import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from kexport import config
from kexport.change import newer
from kexport.errors import ApiError, ConfigError, ProtocolError
from kexport.lines import (
    LEFT_OUT,
    LineSplitter,
    decode_bookmark,
    decode_line,
    decode_metadata,
    flatten,
    status_error,
)
from kexport.paths import EVERY, Every, Like, parse_path
from kexport.shape import Shaper
from kexport.sink import Sink, SinkConfig, SinkType
from kexport.tail import _json_renderer
from kexport.tail import line as shown
from kexport.terminal import plain
from kexport.testing.events import make_event
from kexport.transform import Rule
from kexport.variables import fill_in

bounded = settings(max_examples=200)
LINE = (
    b'{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"b",'
    b'"uid":"u","resourceVersion":"7","labels":{"k":"v"}},"spec":{"n":[1.5,true,null,"\\u00e9\xc3\xa9"]}}}'
)
pieces = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\",
        b"\\u",
        b"\\ud800",
        b":",
        b",",
        b"null",
        b"-",
        b"1e999",
        b"\xff",
        b"\x00",
        b'"type"',
        b'"ERROR"',
        b'"object"',
        b'"metadata"',
        b'"name"',
        b'"BOOKMARK"',
        b'"details"',
        b"9" * 50,
        b"[" * 2000,
    ]
)


@st.composite
def mutated(draw: st.DrawFn, text: bytes) -> bytes:
    """The text with a few places overwritten, doubled or cut out."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        put = draw(pieces | st.binary(max_size=6) | st.just(text[start:end] * 2))
        text = text[:start] + put + text[end:]
    return text


hostile = mutated(LINE) | st.binary(max_size=80) | st.lists(pieces, max_size=20).map(b"".join)


@seed(5)
@bounded
@given(hostile)
def test_any_line_is_a_change_or_one_of_our_errors(text: bytes):
    with suppress(ApiError, ProtocolError):
        item = decode_line(text)
        decode = decode_bookmark if item.type == "BOOKMARK" else decode_metadata
        decode(item.object)


@seed(5)
@bounded
@given(mutated(LINE))
def test_what_is_taken_for_a_change_can_be_stored_as_one_line(text: bytes):
    try:
        item = decode_line(text)
        decode_metadata(item.object)
    except (ApiError, ProtocolError):
        return
    for resource in ("pods", "secrets"):
        rules = [Rule("hash", (("metadata", "labels", EVERY),)), Rule("drop", (("spec", "n"),))]
        shaped = Shaper(resource, b"key", rules).shape(dict(item.object))
        assert b"\n" not in shaped
        shaped.decode()
        assert msgspec.json.decode(shaped, type=dict[str, msgspec.Raw])


@seed(5)
@bounded
@given(hostile)
def test_any_status_is_an_api_error_or_a_protocol_error(text: bytes):
    with suppress(ProtocolError):
        assert isinstance(status_error(text), ApiError)


@seed(5)
@bounded
@given(st.lists(hostile, max_size=4).map(b"\n".join), st.lists(st.integers(0, 400), max_size=6))
def test_no_cut_of_the_bytes_changes_what_a_watch_says(text: bytes, cuts: list[int]):
    def said(parts: list[bytes]) -> list[bytes]:
        splitter = LineSplitter(1000)
        found: list[bytes] = []
        with suppress(ProtocolError):
            for part in parts:
                found += splitter.feed(part)
            return found
        return [b"refused"]

    places = [0, *sorted(cuts), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(places)]
    assert said(parts) == said([text])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=25,
)


@seed(5)
@bounded
@given(json_values, st.integers(1, 5), st.booleans())
def test_only_what_is_too_deep_is_left_out(value: object, levels: int, ascii_only: bool):
    def cut(value: object, left: int) -> object:
        if isinstance(value, dict | list) and not left:
            return json.loads(LEFT_OUT)
        if isinstance(value, dict):
            return {key: cut(each, left - 1) for key, each in value.items()}
        return [cut(each, left - 1) for each in value] if isinstance(value, list) else value

    text = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert json.loads(flatten(text, levels)) == cut(value, levels)


TOML = b"""
[cluster]
name = "prod"
[journal]
path = "state"
max_bytes = 4_294_967_296
[[resources]]
resource = "pods"
namespaces = ["shop", "prod-*"]
[[transforms]]
resources = ["*"]
drop = ["metadata.annotations['a.b/c']"]
[sinks.audit]
type = "null"
timeout_seconds = 30
batch = { max_events = 500 }
"""
toml_pieces = st.sampled_from(
    [
        b"=",
        b"[",
        b"]]",
        b'"',
        b"'",
        b"\n",
        b"${",
        b"${HOME}",
        b"${file:/no/such}",
        b"-1",
        b"nan",
        b"inf",
        b"1e999",
        b"9" * 30,
        b"true",
        b"{}",
        b"[[[[",
        b"\x00",
        b"\xff",
        b"\\",
        b"1979-05-27",
        b".",
        b"*",
        b"a" * 300,
    ]
)


class NullConfig(SinkConfig, frozen=True):
    pass


class NullSink(Sink):
    async def write(self, events: object) -> None:
        del events


NULL = SinkType("null", NullConfig, lambda _config, _context: NullSink())


@seed(5)
@bounded
@given(st.data())
def test_any_configuration_is_one_or_a_config_error(data: st.DataObject):
    text = TOML
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 10)))
        text = text[:start] + data.draw(toml_pieces | st.binary(max_size=4)) + text[end:]
    with suppress(ConfigError):
        config.parse(text.decode(errors="replace"), {"null": NULL})


@seed(5)
@bounded
@given(st.text("ab.[]'\" ${}*0-\n\\é", max_size=20))
def test_any_path_is_one_or_a_config_error(text: str):
    with suppress(ConfigError):
        assert all(isinstance(each, str | Like | Every) for each in parse_path(text))


@seed(5)
@bounded
@given(json_values | st.text("${}file:/NAME_", max_size=20))
def test_filling_in_changes_nothing_else_and_raises_only_config_errors(value: object):
    before = copy.deepcopy(value)
    secrets: dict[str, str] = {}
    with suppress(ConfigError):
        filled = fill_in(value, secrets)
        if "${" not in repr(value):
            assert filled == before
            assert not secrets
    assert value == before


@seed(5)
@bounded
@given(st.text(max_size=40), st.text(max_size=40))
def test_nothing_that_a_terminal_acts_on_is_left(name: str, phase: str):
    assert plain(name).isprintable()
    event = make_event(1, subject=name, data={"object": {"status": {"phase": phase}}})
    assert shown(event, coloured=False).isprintable()


@seed(5)
@bounded
@given(st.text(max_size=60))
def test_an_event_as_json_on_a_terminal_says_the_same_and_acts_on_nothing(text: str):
    event = make_event(1, data={"object": {"note": text}})
    said = _json_renderer(safe=True)(event)
    assert said.isprintable()
    assert json.loads(said)["data"]["object"]["note"] == text


versions = st.integers(1, 10**25).map(str)


@seed(5)
@bounded
@given(versions, versions)
def test_versions_are_in_the_order_of_their_numbers(left: str, right: str):
    assert newer(left, right) == (int(left) > int(right))


@seed(5)
@bounded
@given(st.text(max_size=5), versions)
def test_what_is_no_version_is_never_newer(odd: str, version: str):
    if not (odd.isascii() and odd.isdigit() and odd[0] != "0"):
        assert not newer(odd, version)
        assert not newer(version, odd)


@pytest.mark.parametrize(
    "text", [b"[" * 10_000, b'{"a":' * 10_000, b"]" * 10_000, b'"' * 10_001, b'"\\' * 10_000]
)
def test_flattening_what_is_no_json_ends(text: bytes):
    assert isinstance(flatten(text, 5), bytes)
