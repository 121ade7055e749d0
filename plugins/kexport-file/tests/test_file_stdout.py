"""The file sink on standard output: a real pipe in its place, read slowly, or not at all, or closed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import kexport_file
import pytest
from kexport_file.config import FileConfig

from kexport import Event, Sink, SinkContext, TransientError
from kexport.testing import make_event


def lines(written: list[Event]) -> bytes:
    return b"".join(event.encode() + b"\n" for event in written)


def events(count: int) -> list[Event]:
    return [make_event(number) for number in range(1, count + 1)]


def standard_output() -> Sink:
    context = SinkContext(name="audit", cluster="test", log=cast("Any", None))
    return kexport_file.build(FileConfig(path="-"), context)


@contextmanager
def pipe() -> Iterator[BinaryIO]:
    """A pipe as standard output: gives its reading end. No fixture: pytest's capture would undo it."""
    reader, writer = os.pipe()
    kept = os.dup(1)
    os.dup2(writer, 1)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as file:
        try:
            yield cast("BinaryIO", file)
        finally:
            os.dup2(kept, 1)
            os.close(kept)


async def some(file: BinaryIO, most_bytes: int) -> bytes:
    got = await asyncio.to_thread(file.read, most_bytes)
    assert got, "standard output was closed"
    return got


async def test_dash_writes_lines_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = standard_output()
    await sink.open()
    await sink.write(events(50))
    await sink.close()
    await sink.close()
    assert capfdbinary.readouterr().out == lines(events(50))


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_slow_reader_gets_every_line(blocking: bool) -> None:
    sink, sent, got = standard_output(), events(500), b""
    await sink.open()
    with pipe() as reader:
        os.set_blocking(1, blocking)
        async with asyncio.TaskGroup() as group:
            group.create_task(sink.write(sent))
            while len(got) < len(lines(sent)):
                got += await some(reader, 10_000)
        await sink.close()
    assert got == lines(sent)


async def test_a_reader_that_went_away_is_transient_and_named() -> None:
    sink = standard_output()
    await sink.open()
    with pipe() as reader:
        reader.close()
        with pytest.raises(TransientError, match="nobody reads standard output any more"):
            await sink.write(events(1))
    await sink.close()


async def test_close_does_not_wait_for_a_reader_that_stands_still() -> None:
    sink = standard_output()
    await sink.open()
    with pipe() as reader:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(sink.write(events(2000)))
            await some(reader, 1)
            writing.cancel()
            async with asyncio.timeout(30):
                await sink.close()


async def test_a_line_broken_off_is_never_run_into_the_next() -> None:
    sink, sent, last = standard_output(), events(1000), make_event(5000)
    await sink.open()
    with pipe() as reader:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(sink.write(sent))
            got = await some(reader, 1)
            writing.cancel()
            await sink.close()
            await sink.open()
            group.create_task(sink.write([last]))
            while not got.endswith(last.encode() + b"\n"):
                got += await some(reader, 1_000_000)
        await sink.close()
    whole = {event.encode() for event in sent}
    broken = [line for line in got.split(b"\n")[:-2] if line not in whole]
    assert len(broken) == 1
    assert not broken[0].endswith(b"}}}")
