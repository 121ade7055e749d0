"""One list at one version: how often it is asked for, and which answers are none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from kexport.history import History, UnreadableError
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply
from tests.liar import Liar, listing
from tests.story import STREAM, a_client

A = {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "5"}


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.mark.parametrize(("status", "asked"), [(400, 1), (403, 1), (410, 2), (504, 8), (500, 8)])
async def test_a_refusal_is_believed_after_so_many_requests(
    fake: FakeCluster, status: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.history.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("kexport.history.LONGEST_PAUSE_SECONDS", 0.002)
    fake.fail(status, times=100, path_contains="fieldSelector")
    async with a_client(fake) as client:
        history = History(STREAM, client)
        with pytest.raises(UnreadableError):
            await history.version("default/a", fake.revision)
        assert history.requests == asked


@pytest.mark.parametrize(
    "message",
    [
        "failed to read one or more widgets from the storage: StorageError: corrupt object, Code: 7",
        "request to convert CR from an invalid group/version: example.com/v1",
    ],
)
async def test_what_the_server_cannot_decode_is_not_asked_for_again_and_again(
    fake: FakeCluster, message: str
) -> None:
    status = {"kind": "Status", "status": "Failure", "reason": "InternalError", "code": 500}
    body = msgspec.json.encode({**status, "message": message})
    fake.script(Reply(status=500, body=body), times=100, path_contains="fieldSelector")
    async with a_client(fake) as client:
        history = History(STREAM, client)
        with pytest.raises(UnreadableError, match=message[-20:]):
            await history.version("default/a", fake.revision)
        assert history.requests == 2


async def test_retry_after_is_honoured(fake: FakeCluster) -> None:
    fake.fail(429, times=1, path_contains="fieldSelector", retry_after=1)
    async with a_client(fake) as client:
        history = History(STREAM, client)
        assert await history.version("default/a", fake.revision) is None
        assert history.seconds >= 1


@pytest.mark.parametrize(
    "answer",
    [
        "nonsense",
        listing("8", A),  # not the version that was asked for: a server that ignores Exact
        listing("7", A, {**A, "name": "b"}),  # … or the field selector
        listing("7", {**A, "name": "b"}),
        listing("7", {"name": "a"}),
    ],
)
async def test_an_answer_to_another_question_is_no_history(answer: Any) -> None:
    history = History(STREAM, Liar(answer))  # type: ignore[arg-type]
    with pytest.raises(UnreadableError):
        await history.version("default/a", 7)


@pytest.mark.parametrize("answer", ["nonsense", listing("8", A)])
async def test_a_list_at_another_version_is_no_history(answer: Any) -> None:
    history = History(STREAM, Liar(answer))  # type: ignore[arg-type]
    with pytest.raises(UnreadableError):
        await history.everything(7)


async def test_an_answer_that_is_too_large_to_be_read_is_no_history(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.kube.MAX_BODY_BYTES", 10)
    async with a_client(fake) as client:
        history = History(STREAM, client)
        with pytest.raises(UnreadableError, match="larger than 10 bytes"):
            await history.everything(fake.revision)
        assert history.requests == 1
        with pytest.raises(UnreadableError, match="larger than 10 bytes"):
            await history.newest()
