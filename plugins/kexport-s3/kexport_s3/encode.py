"""Events -> an object's bytes: the same for the same events and the same versions of the libraries."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence

import zstandard

from kexport import ConfigError, Event
from kexport_s3.config import Format

CONTENT_TYPES: dict[Format, str] = {
    "jsonl.zst": "application/zstd",
    "jsonl.gz": "application/gzip",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


def check(form: Format, *, name: str) -> None:
    """Raise ConfigError when a library is missing that this format needs."""
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(
            f"sinks.{name}: format 'parquet' needs pyarrow, which is not installed:"
            " pip install 'kexport-s3[parquet]', or choose format = \"jsonl.zst\""
        )


def encode(events: Sequence[Event], form: Format) -> bytes:
    """A whole object; takes a while, and is meant for a thread."""
    if form == "parquet":
        # Takes 40 MB and a tenth of a second to import: only for those who chose it.
        from kexport_s3.parquet import table_of  # noqa: PLC0415

        return table_of(events)
    lines = b"\n".join([*(event.encode() for event in events), b""])
    if form == "jsonl.zst":
        return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines)
    if form == "jsonl.gz":
        return gzip.compress(lines, 6, mtime=0)
    return lines
