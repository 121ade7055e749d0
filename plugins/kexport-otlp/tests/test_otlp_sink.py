"""The otlp sink and a server that takes everything: what is sent, how, and when `write` returns."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import kexport_otlp
import msgspec
import pytest
from aiohttp import web
from kexport_otlp.config import OtlpConfig

from kexport import ConfigError
from kexport.testing import SinkLog

from .otlp_arrangement import (
    OtlpServer,
    Received,
    build,
    context,
    events,
    large,
    opened,
    partial,
)


async def test_every_event_is_stored_in_order_when_write_returns() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        sent = events(1, 300)
        await sink.write(sent)
        assert server.numbers == list(range(1, 301))
        assert [record.body.string_value.encode() for record in server.stored] == [e.line for e in sent]
        assert len(server.requests) == 1


async def test_write_waits_for_the_answer() -> None:
    answer = asyncio.Event()

    async def slowly(_request: web.Request, _received: Received) -> None:
        await answer.wait()

    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [slowly]
        writing = asyncio.ensure_future(sink.write(events(1, 3)))
        done, _ = await asyncio.wait({writing}, timeout=0.2)
        assert not done
        answer.set()
        await writing
        assert server.numbers == [1, 2, 3]


async def test_writing_again_repeats_the_same_bytes() -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        await sink.write(events(1, 10))
        await sink.write(events(1, 10))
        assert server.numbers == [*range(1, 11), *range(1, 11)]
        assert server.requests[0].body == server.requests[1].body


async def test_requests_hold_no_more_than_max_request_bytes_and_one_larger_event_goes_alone() -> None:
    async with OtlpServer().running() as server, opened(server, max_request_bytes=4_000) as sink:
        await sink.write([*events(1, 20), large(21), *events(22, 30)])
        assert server.numbers == list(range(1, 31))
        sizes = {len(request.body): request.numbers for request in server.requests}
        assert [numbers for size, numbers in sizes.items() if size > 4_000] == [[21]]
        assert all(
            len(request.numbers) > 1 for request in server.requests if request.numbers[0] not in {21, 30}
        )


async def test_requests_are_compressed_unless_told_otherwise() -> None:
    async with OtlpServer().running() as server:
        for compression in ("gzip", "none"):
            async with opened(server, compression=compression) as sink:
                await sink.write(events(1, 50))
                (request,) = server.requests
                assert request.headers.get("Content-Encoding") == ("gzip" if compression == "gzip" else None)
                assert request.headers["Content-Type"] == "application/x-protobuf"
                assert (request.sent_bytes < len(request.body) / 3) == (compression == "gzip")


async def test_headers_are_sent_and_open_sends_an_empty_request_with_them() -> None:
    async with OtlpServer().running() as server:
        sink = build(server.endpoint, headers={"authorization": "Bearer s3cret", "x-scope": "a"})
        await sink.open()
        await sink.write(events(1, 1))
        await sink.close()
        opening, writing = server.requests
        assert opening.body == b""
        for request in (opening, writing):
            assert request.headers["authorization"] == "Bearer s3cret"
            assert request.headers["x-scope"] == "a"
            assert request.headers["User-Agent"].startswith("kexport-otlp/")


@pytest.mark.parametrize(
    ("path", "requested"),
    [
        ("", "/v1/logs"),
        ("/", "/v1/logs"),
        ("/v1/logs", "/v1/logs"),
        ("/otlp/v1/logs", "/otlp/v1/logs"),
        ("/insert?stream=k8s", "/insert?stream=k8s"),
        ("?key=1", "/v1/logs?key=1"),
    ],
)
async def test_the_logs_path_is_added_to_an_endpoint_without_a_path(path: str, requested: str) -> None:
    async with OtlpServer().running() as server:
        server.endpoint += path
        async with opened(server) as sink:
            await sink.write(events(1, 1))
            assert server.requests[0].path == requested


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"endpoint": "collector:4318"}, r"sinks\.audit\.endpoint: must begin with http"),
        ({"endpoint": "http://h:port"}, r"endpoint: is no URL"),
        ({"endpoint": "https://ann:s3cret@h"}, "give headers an authorization"),
        ({"headers": {"a b": "s3cret"}}, "'a b' is no name of a header"),
        ({"headers": {"a": "s3cret\r\nx: y"}}, "the value of a has a line break"),
        ({"headers": {"Content-Type": "s3cret"}}, "Content-Type is the sink's own"),
        ({"key_file": "k"}, "key_file without cert_file"),
        ({"ca_file": "c"}, "https://"),
        ({"resource_attributes": {"n": 2**63}}, "more than 64 bits"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_building(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        build(**{"endpoint": "http://collector", **settings})
    assert "s3cret" not in str(refused.value)


async def test_a_message_without_rejections_is_a_warning_in_the_log_and_nothing_more() -> None:
    log = SinkLog()
    async with OtlpServer().running() as server, opened(server, log=log) as sink:
        server.message = "use batches of 500"
        await sink.write(events(1, 3))
    ((level, _, fields),) = log.entries
    assert (level, fields["warning"]) == ("warning", "use batches of 500")


@pytest.mark.parametrize(
    "answer",
    [
        partial,
        lambda: web.Response(status=202, body=b"", headers={"Content-Type": "application/x-protobuf"}),
        lambda: web.Response(status=204),
        lambda: web.Response(text="{}", content_type="application/json"),
        lambda: web.Response(text='{"partialSuccess":{}}', content_type="application/json"),
        lambda: web.Response(
            text='{"partialSuccess":{"rejectedLogRecords":"0"}}', content_type="application/json"
        ),
    ],
)
async def test_full_success_in_all_its_forms(answer: Any) -> None:
    async with OtlpServer().running() as server, opened(server) as sink:
        server.scripted = [answer()]
        await sink.write(events(1, 3))
        assert len(server.requests) == 1


async def test_cancelling_a_write_and_writing_again_delivers_everything() -> None:
    reached = asyncio.Event()

    async def never(_request: web.Request, _received: Received) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with OtlpServer().running() as server, opened(server, max_request_bytes=5_000) as sink:
        server.scripted = [lambda *_: asyncio.sleep(0), never]
        first = asyncio.ensure_future(sink.write(events(1, 20)))
        await reached.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        stored = len(server.numbers)
        assert 0 < stored < 20
        await sink.write(events(1, 25))
        assert server.numbers == list(range(1, 26))


async def test_close_twice_and_after_a_failed_open_and_open_again() -> None:
    sink = build("http://127.0.0.1:1")
    await sink.close()
    with pytest.raises(Exception, match="cannot be reached"):
        await sink.open()
    await sink.close()
    await sink.close()
    async with OtlpServer().running() as server:
        again = build(server.endpoint)
        await again.open()
        await again.close()
        await again.open()
        await again.write(events(1, 1))
        await again.close()
        assert server.numbers == [1]


def test_the_plugin_registers_its_sink_type_and_building_does_no_io() -> None:
    (kind,) = kexport_otlp.kexport_sinks()
    assert kind.name == "otlp"
    kind.build(
        kind.config(endpoint="https://nowhere.invalid", ca_file="/no/such/file", cert_file="/nor/this"),
        context(),
    )


def test_settings_are_not_shown() -> None:
    config = OtlpConfig(endpoint="http://x?key=s3cret", headers={"authorization": "s3cret"})
    assert "s3cret" not in repr(config) + repr(build("http://x", headers={"a": "s3cret"}))


def test_the_readme_has_every_setting_with_its_default_and_description() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", readme, flags=re.MULTILINE))
    fields = msgspec.json.schema(OtlpConfig)["$defs"]["OtlpConfig"]
    assert list(rows) == list(fields["properties"])
    for name, field in fields["properties"].items():
        choices = f" One of {', '.join(f'`{each}`' for each in field['enum'])}." if "enum" in field else ""
        default = (
            "required"
            if name in fields["required"]
            else f"`{msgspec.json.encode(field['default']).decode()}`"
        )
        assert rows[name] == f"{default} | {field['description']}{choices}"
