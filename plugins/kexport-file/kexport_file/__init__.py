"""The file sink: events as JSON lines in a file that rotates, or on standard output.

A line is there, whole and on the disk, before `write` returns; what a crash or a full disk tore off is cut
away before anything is written behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexport import Sink, SinkContext, SinkType, hookimpl
from kexport_file.config import FileConfig
from kexport_file.sink import FileSink
from kexport_file.stdout import StandardOutputSink


def build(config: FileConfig, context: SinkContext) -> Sink:
    """The sink for these settings: `path = "-"` is standard output."""
    return (StandardOutputSink if config.path == "-" else FileSink)(config, context)


file_sink = SinkType("file", FileConfig, build)


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [file_sink]
