"""The bytes of objects: the same for the same events, and read back by other tools."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, datetime
from typing import Any, get_args

import pyarrow.parquet
import pytest
import zstandard
from kexport_s3.config import Format, S3Config
from kexport_s3.encode import CONTENT_TYPES, encode
from kexport_s3.sink import S3Sink

from kexport import ConfigError, Event
from kexport.event import Attributes
from kexport.testing import make_event

from .s3_arrangement import context, lines

EVENTS = [make_event(number) for number in range(1, 200)]


def rows(events: list[Event]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(
        io.BytesIO(encode(events, "parquet"))
    ).to_pylist()
    return found


@pytest.mark.parametrize("form", get_args(Format))
def test_the_same_events_give_the_same_bytes(form: Format) -> None:
    again = [Event(event.line, position=event.position) for event in EVENTS]
    assert encode(EVENTS, form) == encode(again, form)
    assert form in CONTENT_TYPES


def test_json_lines_are_read_back() -> None:
    assert encode(EVENTS, "jsonl") == lines(EVENTS)
    assert gzip.decompress(encode(EVENTS, "jsonl.gz")) == lines(EVENTS)
    packed = encode(EVENTS, "jsonl.zst")
    assert zstandard.ZstdDecompressor().decompress(packed) == lines(EVENTS)
    assert zstandard.get_frame_parameters(packed).has_checksum
    assert len(packed) < len(lines(EVENTS)) / 5


def test_gzip_holds_no_time() -> None:
    assert encode(EVENTS, "jsonl.gz")[4:8] == bytes(4)


def test_a_parquet_row_holds_the_whole_event_in_order() -> None:
    found = rows(EVENTS)
    assert [row["id"] for row in found] == [event.id for event in EVENTS]
    for row, event in zip(found, EVENTS, strict=True):
        whole = json.loads(event.line)
        assert row.pop("time") == event.time == datetime(2026, 1, 1, tzinfo=UTC)
        assert json.loads(row.pop("object")) == whole.pop("data")["object"]
        del whole["time"]
        assert {name: value for name, value in row.items() if value is not None} == whole


def test_parquet_has_a_column_for_every_attribute_and_keeps_what_is_beside_the_object() -> None:
    event = make_event(1, data={"object": None, "patch": [1], "éa": "ü"}, rejectedby="x", objnamespace="")
    (row,) = rows([event])
    assert set(row) == {*Attributes.__struct_fields__, "object", "data"}
    assert (row["object"], json.loads(row["data"])) == ("null", {"patch": [1], "éa": "ü"})
    assert (row["rejectedby"], row["rejectedreason"], row["objnamespace"]) == ("x", None, None)


def test_events_without_an_object_or_without_names_are_rows_too() -> None:
    (row,) = rows([make_event(1, data={"reason": "gone"}, apiversion="", kind="", resource="")])
    assert (row["object"], row["data"], row["kind"]) == (None, '{"reason":"gone"}', "")


def test_every_parquet_file_has_the_same_schema() -> None:
    one, other = (
        encode([event], "parquet") for event in (EVENTS[0], make_event(2, data={"x": 1}, objname=""))
    )
    assert pyarrow.parquet.read_schema(io.BytesIO(one)) == pyarrow.parquet.read_schema(io.BytesIO(other))


def test_missing_pyarrow_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kexport_s3.encode.importlib.util.find_spec", lambda _name: None)
    config = S3Config(url="s3://lake", format="parquet")
    with pytest.raises(
        ConfigError, match=r"sinks.lake: format 'parquet' needs pyarrow.*kexport-s3\[parquet\]"
    ):
        S3Sink(config, context())
