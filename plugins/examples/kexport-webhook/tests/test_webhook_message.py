"""What goes over the wire, read by the CloudEvents SDK: attributes, data, sizes and signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from kexport_webhook.config import Mode

from kexport import Event, RejectedError
from kexport.testing import make_event

from .webhook_arrangement import Endpoint, events, opened

SECRET_BYTES = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(SECRET_BYTES).decode()
MODES: list[Mode] = ["binary", "structured", "batched"]
CONTENT_TYPES = {
    "binary": "application/json",
    "structured": "application/cloudevents+json; charset=utf-8",
    "batched": "application/cloudevents-batch+json; charset=utf-8",
}
AWKWARD = 'cafe "näh" 100% \N{SNOWMAN}\U0001f600 ~!\n tab\t'


@pytest.mark.parametrize("mode", MODES)
async def test_the_sdk_reads_every_attribute_and_the_data(mode: Mode) -> None:
    sent = make_event(7, rejectedby="kafka", rejectedreason=AWKWARD)
    async with Endpoint().running() as endpoint, opened(endpoint, mode=mode) as sink:
        await sink.write([sent])
        (request,) = endpoint.requests
    (event,) = request.events
    expected: dict[str, Any] = msgspec.to_builtins(sent.attributes)
    expected["time"] = datetime(2026, 1, 1, tzinfo=UTC)
    assert event.get_attributes() == expected
    assert event.get_data() == sent.data
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["Content-Type"] == CONTENT_TYPES[mode]
    assert request.headers["User-Agent"].startswith("kexport-webhook/")


async def test_bodies_are_the_events_own_bytes() -> None:
    first, second = events(1, 2)
    bodies = {
        "binary": [first.data_json, second.data_json],
        "structured": [first.line, second.line],
        "batched": [b"[" + first.line + b"," + second.line + b"]"],
    }
    for mode in MODES:
        async with Endpoint().running() as endpoint, opened(endpoint, mode=mode) as sink:
            await sink.write([first, second])
            assert [request.body for request in endpoint.requests] == bodies[mode]


async def test_header_values_are_encoded_as_the_binding_says() -> None:
    async with Endpoint().running() as endpoint, opened(endpoint, mode="binary") as sink:
        await sink.write([make_event(1, rejectedreason='Euro € 😀 "%" ~!')])
        (request,) = endpoint.requests
    # The euro sign and the emoji are examples of section 3.1.3.2.
    assert request.headers["ce-rejectedreason"] == "Euro%20%E2%82%AC%20%F0%9F%98%80%20%22%25%22%20~!"
    assert not {"ce-data", "ce-datacontenttype"} & {name.lower() for name in request.headers}


async def test_attributes_that_this_version_does_not_know_are_headers_too() -> None:
    line = make_event(1).line.replace(b'"origin":', b'"manager":"kubectl","count":3,"origin":')
    async with Endpoint().running() as endpoint, opened(endpoint, mode="binary") as sink:
        await sink.write([Event(line)])
        (request,) = endpoint.requests
    assert (request.headers["ce-manager"], request.headers["ce-count"]) == ("kubectl", "3")


@pytest.mark.parametrize(
    ("mode", "requests"), [("binary", [1] * 25), ("structured", [1] * 25), ("batched", [10, 10, 5])]
)
async def test_only_batched_requests_hold_several_events_and_no_more_than_allowed(
    mode: Mode, requests: list[int]
) -> None:
    async with (
        Endpoint().running() as endpoint,
        opened(endpoint, mode=mode, max_request_events=10) as sink,
    ):
        await sink.write(events(1, 25))
        assert [len(request.numbers) for request in endpoint.requests] == requests
        assert endpoint.numbers == list(range(1, 26))
        assert len({request.peer for request in endpoint.requests}) == 1  # one connection, kept alive


async def test_batches_have_no_more_than_max_request_bytes_and_a_larger_event_goes_alone() -> None:
    large = make_event(5, data={"object": {"data": "x" * 9_000}})
    async with (
        Endpoint().running() as endpoint,
        opened(endpoint, mode="batched", max_request_bytes=2_500) as sink,
    ):
        await sink.write([*events(1, 4), large, *events(6, 20)])
        assert endpoint.numbers == list(range(1, 21))
        above = [request.numbers for request in endpoint.requests if len(request.body) > 2_500]
        assert above == [[5]]
        assert max(len(request.numbers) for request in endpoint.requests) > 1


@pytest.mark.parametrize("mode", ["structured", "batched"])
async def test_signatures_are_those_of_standard_webhooks(mode: Mode) -> None:
    async with (
        Endpoint().running() as endpoint,
        opened(endpoint, mode=mode, signing_secret=SECRET) as sink,
    ):
        before = int(time.time())
        await sink.write(events(1, 3))
        await sink.write(events(1, 3))
        await sink.write(events(4, 6))
    names = []
    for request in endpoint.requests:
        name, stamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        expected = hmac.digest(SECRET_BYTES, f"{name}.{stamp}.".encode() + request.body, hashlib.sha256)
        assert request.headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
        assert before <= int(stamp) <= time.time()
        assert "." not in name
        names.append(name)
    writes = len(names) // 3
    assert names[:writes] == names[writes : 2 * writes]  # a repeat is the same message
    assert len(set(names)) == 2 * writes


async def test_unsigned_requests_have_no_headers_of_standard_webhooks() -> None:
    async with Endpoint().running() as endpoint, opened(endpoint) as sink:
        await sink.write(events(1, 1))
        (request,) = endpoint.requests
    assert not [name for name in request.headers if name.lower().startswith("webhook-")]


async def test_something_that_is_no_cloudevent_is_refused_and_not_sent() -> None:
    async with Endpoint().running() as endpoint, opened(endpoint, mode="binary") as sink:
        with pytest.raises(RejectedError, match=r"sinks\.audit: the event is no CloudEvent") as refused:
            await sink.write([*events(1, 2), Event(b"{}"), *events(3, 4)])
        assert refused.value.written == 2
        assert endpoint.numbers == [1, 2]
