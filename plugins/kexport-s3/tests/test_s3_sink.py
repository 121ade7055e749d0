"""The sink on a fake S3: what is stored when write returns, repeats, and batches that fail in the middle."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import kexport_s3
import msgspec
import pytest
from kexport_s3.config import S3Config
from kexport_s3.sink import PROBE, UPLOADS_AT_ONCE, S3Sink

from kexport import Event, TransientError
from kexport.testing import SinkLog, make_event

from .fake_s3 import FakeS3
from .s3_arrangement import SECRET, context, lines, mixed, numbers, opened, settings, unpack


@pytest.fixture
async def server() -> AsyncIterator[FakeS3]:
    async with FakeS3() as server:
        yield server


def batch(first: int, last: int) -> list[Event]:
    return [make_event(number) for number in range(first, last + 1)]


async def deliver(sink: S3Sink, events: Sequence[Event], *, tries: int = 10) -> int:
    """Write as the engine does; how many tries it took."""
    for number in range(1, tries + 1):
        try:
            await sink.write(events)
        except TransientError as error:
            events = events[error.written :]
        else:
            return number
    raise AssertionError(f"not delivered in {tries} tries")


async def test_a_write_returns_with_every_event_stored(server: FakeS3) -> None:
    async with opened(server) as sink:
        await sink.write(batch(1, 100))
        (key,) = server.names
        assert key.startswith("events/test/configmaps/dt=2026-01-01/hour=00/")
        assert unpack(key, server.objects[key]) == lines(batch(1, 100))
        await sink.write(batch(101, 150))
        assert numbers(server) == list(range(1, 151))


@pytest.mark.parametrize("form", ["jsonl.zst", "jsonl.gz", "jsonl"])
async def test_objects_say_what_they_are_and_are_not_unpacked_on_the_way(server: FakeS3, form: str) -> None:
    async with opened(server, format=form, storage_class="STANDARD_IA") as sink:
        await sink.write(batch(1, 3))
    (key,) = server.names
    headers = server.headers[key]
    assert key.endswith("." + form)
    assert headers["If-None-Match"] == "*"
    assert headers["x-amz-storage-class"] == "STANDARD_IA"
    assert headers["Content-Type"].startswith("application/")
    assert "Content-Encoding" not in headers


async def test_a_repeated_batch_is_the_same_object(server: FakeS3) -> None:
    log = SinkLog()
    async with opened(server, log=log) as sink:
        await sink.write(batch(1, 9))
    stored = dict(server.objects)
    async with opened(server, log=log) as sink:
        await sink.write([Event(event.line, position=event.position) for event in batch(1, 9)])
    assert server.objects == stored
    assert [fields["new"] for level, _, fields in log.entries if level == "debug"] == [True, False]


async def test_a_new_journal_overwrites_nothing(server: FakeS3) -> None:
    async with opened(server) as sink:
        await sink.write([make_event(5, position=1)])
        await sink.write([make_event(6, position=1)])
    assert sorted(numbers(server)) == [5, 6]


async def test_a_lost_answer_makes_no_second_object(server: FakeS3) -> None:
    server.lose_answer.add("pods")
    async with opened(server) as sink:
        assert await deliver(sink, mixed(1, 10, "pods", "nodes")) == 2
    assert len(server.names) == 2
    assert sorted(numbers(server)) == list(range(1, 11))


async def test_written_ends_at_the_first_event_that_is_not_stored(server: FakeS3) -> None:
    events = [*mixed(1, 4, "pods"), *mixed(5, 10, "nodes", "secrets", "pods")]
    server.fail["secrets"] = (400, "Odd")
    async with opened(server) as sink:
        with pytest.raises(TransientError, match="Odd") as caught:
            await sink.write(events)
    first_secret = next(i for i, event in enumerate(events) if event.attributes.resource == "secrets")
    assert caught.value.written == first_secret
    assert {event.position for event in events[:first_secret]} <= set(numbers(server))


async def test_only_what_failed_is_sent_again_under_the_same_name(server: FakeS3) -> None:
    events = mixed(1, 30, "pods", "nodes", "secrets")
    server.fail["nodes"] = (400, "Odd")
    async with opened(server) as sink:
        for _ in range(3):
            with pytest.raises(TransientError) as caught:
                await sink.write(events)
            events = events[caught.value.written :]
        server.fail.clear()
        await sink.write(events)
        assert sorted(numbers(server)) == list(range(1, 31))
        assert len(server.names) == 3
        attempts = [key for key in server.puts if "/nodes/" in key]
        assert len(attempts) == 4
        assert len(set(attempts)) == 1
        assert len([key for key in server.puts if "/pods/" in key]) == 1
        # And what was remembered for that is forgotten: the same events again are looked at again.
        await sink.write(mixed(1, 30, "pods", "nodes", "secrets"))
        assert len([key for key in server.puts if "/pods/" in key]) == 2


async def test_a_cancelled_write_leaves_whole_objects_and_is_finished_by_the_next(server: FakeS3) -> None:
    server.hang.add("nodes")
    log = SinkLog()

    def halfway() -> bool:
        stored = [str(entry.fields["path"]) for entry in log.entries if entry.message == "object stored"]
        return any("/pods/" in path for path in stored) and any("/nodes/" in key for key in server.puts)

    async with opened(server, log=log) as sink:
        writing = asyncio.create_task(sink.write(mixed(1, 20, "pods", "nodes")))
        async with asyncio.timeout(30):
            while not halfway():
                await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        for key in server.names:
            unpack(key, server.objects[key])
        server.hang.clear()
        await sink.write(mixed(1, 20, "pods", "nodes"))
    assert sorted(numbers(server)) == list(range(1, 21))
    assert len([key for key in server.puts if "/pods/" in key]) == 1


async def test_uploads_run_side_by_side_and_their_number_is_bounded(server: FakeS3) -> None:
    resources = [f"kind{number}" for number in range(30)]
    async with opened(server) as sink:
        server.gather = UPLOADS_AT_ONCE
        await sink.write(mixed(1, 60, *resources))
    assert server.most_at_once == UPLOADS_AT_ONCE
    assert len(server.names) == 30


async def test_after_a_failure_no_more_uploads_begin(server: FakeS3) -> None:
    server.fail["events/"] = (400, "Odd")
    sink = S3Sink(settings(server, url="s3://lake"), context())
    await sink.open()
    with pytest.raises(TransientError) as caught:
        await sink.write(
            [*mixed(1, 100, *(f"kind{number}" for number in range(50))), *mixed(101, 101, "events")]
        )
    assert caught.value.written == 100
    server.fail["kind"] = (400, "Odd")
    server.puts.clear()
    with pytest.raises(TransientError) as caught:
        await sink.write(mixed(201, 300, *(f"kind{number}" for number in range(50))))
    assert caught.value.written == 0
    assert len(server.puts) <= 2 * UPLOADS_AT_ONCE
    await sink.close()


async def test_open_leaves_one_small_object_whatever_it_is_asked(server: FakeS3) -> None:
    for _ in range(3):
        async with opened(server):
            pass
    assert list(server.objects) == [f"events/{PROBE}"]


async def test_close_may_come_twice_and_before_open(server: FakeS3) -> None:
    sink = S3Sink(settings(server), context())
    await sink.close()
    await sink.open()
    await sink.close()
    await sink.close()


async def test_a_folder_takes_the_place_of_a_bucket(tmp_path: Path) -> None:
    sink = S3Sink(S3Config(url=f"file://{tmp_path}/new/folder", prefix="{resource}"), context())
    assert list(tmp_path.iterdir()) == []
    await sink.open()
    await sink.write(batch(1, 5))
    await sink.write(batch(1, 5))
    (path,) = (tmp_path / "new/folder/configmaps").iterdir()
    assert unpack(path.name, path.read_bytes()) == lines(batch(1, 5))
    await sink.close()


def test_every_setting_is_described_here_and_in_the_readme() -> None:
    (schema,) = msgspec.json.schema_components([S3Config], ref_template="{name}")[1].values()
    readme = Path(__file__).parent.with_name("README.md").read_text(encoding="utf-8")
    for name, each in schema["properties"].items():
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}` |"))
        assert each["description"] in row


def test_the_readme_shows_configurations_that_load() -> None:
    readme = Path(__file__).parent.with_name("README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```toml\n(.*?)```", readme, flags=re.DOTALL):
        (table,) = msgspec.toml.decode(block)["sinks"].values()
        for name in ("type", "batch", "rejects_to", "timeout_seconds"):
            table.pop(name, None)
        S3Sink(msgspec.convert(table, S3Config), context())


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="bukket"):
        msgspec.convert({"url": "s3://lake", "bukket": "x"}, S3Config)


def test_secrets_are_not_shown() -> None:
    config = S3Config(url="s3://x", secret_access_key=SECRET, session_token=SECRET, options={"key": SECRET})
    assert SECRET not in f"{config} {config!r}"


def test_the_plugin_registers_its_sink_type_with_large_batches_that_are_waited_for() -> None:
    (kind,) = kexport_s3.kexport_sinks()
    assert (kind.name, kind.config) == ("s3", S3Config)
    assert (kind.batch.max_events, kind.batch.max_bytes, kind.batch.max_wait_seconds) == (
        50_000,
        64_000_000,
        60,
    )
    kind.build(S3Config(url="file:///nowhere/at/all"), context())
