"""Events as a Parquet table: a column for each attribute, and the object as JSON text.

The columns are fixed, so that every file of a data set has the same schema. Nothing of an event is lost:
`object` is the JSON of `data.object`, and `data` that of the other members of `data`, where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kexport import Event

_TIME = "time"
_ATTRIBUTES = (
    "specversion", "id", "source", "type", "subject", _TIME, "datacontenttype", "partitionkey", "sequence",
    "origin", "cluster", "apiversion", "kind", "resource", "objnamespace", "objname", "resourceversion",
    "epoch", "manager", "managertime", "rejectedby", "rejectedreason",
)  # fmt: skip
_REQUIRED = frozenset(_ATTRIBUTES[: _ATTRIBUTES.index("objnamespace")])
_SCHEMA = pa.schema(
    [
        *(
            pa.field(
                name,
                pa.timestamp("us", tz="UTC") if name == _TIME else pa.string(),
                nullable=name not in _REQUIRED,
            )
            for name in _ATTRIBUTES
        ),
        pa.field("object", pa.string()),
        pa.field("data", pa.string()),
    ]
)
# These differ from row to row: a dictionary of them would only be in the way.
_UNIQUE = frozenset({"id", _TIME, "sequence", "resourceversion", "object", "data"})
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def table_of(events: Sequence[Event]) -> bytes:
    """The bytes of a Parquet file with one row an event, in their order."""
    columns: dict[str, Iterable[Any]] = {
        name: [getattr(event.attributes, name) or None for event in events] for name in _ATTRIBUTES
    }
    for name in _REQUIRED:
        columns[name] = [text or "" for text in columns[name]]
    columns[_TIME] = [datetime.fromisoformat(text) for text in columns[_TIME]]
    columns["object"], columns["data"] = zip(*map(_object_and_rest, events), strict=True)
    arrays = [pa.array(columns[field.name], field.type) for field in _SCHEMA]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(arrays, schema=_SCHEMA),
        sink,
        compression="zstd",
        use_dictionary=[name for name in _SCHEMA.names if name not in _UNIQUE],
    )
    return bytes(sink.getvalue())


def _object_and_rest(event: Event) -> tuple[str | None, str | None]:
    members = _members.decode(event.data_json)
    body = members.pop("object", None)
    rest = msgspec.json.encode(members).decode() if members else None
    return (bytes(body).decode() if body is not None else None), rest
