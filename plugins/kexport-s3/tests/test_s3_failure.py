"""Errors of stores: what they mean for the engine, and what they tell the operator."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kexport_s3.config import S3Config
from kexport_s3.failure import is_stored
from kexport_s3.sink import S3Sink
from obstore.exceptions import AlreadyExistsError

from kexport import ConfigError, TransientError
from kexport.testing import make_event

from .fake_s3 import FakeS3
from .s3_arrangement import SECRET, context, opened, settings


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def server() -> AsyncIterator[FakeS3]:
    async with FakeS3() as server:
        yield server


async def opening(config: S3Config) -> Exception:
    sink = S3Sink(config, context())
    try:
        with pytest.raises((ConfigError, TransientError)) as caught:
            await sink.open()
    finally:
        await sink.close()
    assert SECRET not in str(caught.value)
    assert "Debug source" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (404, "NoSuchBucket", ConfigError, "no such bucket: s3://lake/events"),
        (403, "AccessDenied", ConfigError, "grant s3:PutObject"),
        (403, "InvalidAccessKeyId", ConfigError, "check access_key_id"),
        (403, "SignatureDoesNotMatch", ConfigError, "check access_key_id"),
        (404, "XAdminUserNotFound", ConfigError, "check access_key_id"),
        (401, "Unauthorized", ConfigError, "may not be written"),
        (301, "PermanentRedirect", ConfigError, "correct region"),
        (400, "AuthorizationHeaderMalformed", ConfigError, "correct region"),
        (400, "ExpiredToken", TransientError, "have expired"),
        (403, "RequestTimeTooSkewed", TransientError, "clock is wrong"),
        (400, "Odd", TransientError, 'not stored (Odd: as the test "asked")'),
        (503, "SlowDown", TransientError, "SlowDown"),
        (500, "InternalError", TransientError, "InternalError"),
    ],
)
async def test_the_servers_answer_decides(
    server: FakeS3, status: int, code: str, kind: type[Exception], says: str
) -> None:
    server.fail["_kexport_check"] = (status, code)
    error = await opening(settings(server))
    assert type(error) is kind
    assert str(error).startswith("sinks.lake: ")
    assert says in str(error)
    assert code in str(error) or status == 301  # obstore keeps no body of a redirect


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket"), (503, "SlowDown")]
)
async def test_while_running_everything_is_tried_again(server: FakeS3, status: int, code: str) -> None:
    async with opened(server) as sink:
        server.fail["configmaps"] = (status, code)
        with pytest.raises(TransientError, match=code) as caught:
            await sink.write([make_event(1)])
        assert caught.value.written == 0
        server.fail.clear()
        await sink.write([make_event(1)])


async def test_a_server_that_is_away_is_waited_for() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        config = S3Config(
            url="s3://lake", endpoint=endpoint, allow_http=True, access_key_id="x", secret_access_key=SECRET
        )
        error = await opening(config)
    assert isinstance(error, TransientError)
    assert re.search(
        r"s3://lake cannot be reached \(PUT http://127\S+: .*refused\): is the server up", str(error)
    )


async def test_a_server_that_is_silent_is_given_up_in_time(server: FakeS3) -> None:
    server.hang.add("_kexport_check")
    async with asyncio.timeout(30):
        error = await opening(settings(server, request_timeout_seconds=0.3))
    assert isinstance(error, TransientError)
    assert "cannot be reached" in str(error)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"colour": "red"}, "unknown option (Configuration key: 'colour'"),
        ({"aws_unsigned_payload": "perhaps"}, 'failed to parse "perhaps" as boolean'),
    ],
)
async def test_wrong_options_are_refused(server: FakeS3, options: dict[str, str], says: str) -> None:
    error = await opening(settings(server, options=options))
    assert isinstance(error, ConfigError)
    assert says in str(error)


async def test_options_reach_the_store(server: FakeS3) -> None:
    options = {"aws_server_side_encryption": "AES256", "aws_checksum_algorithm": "SHA256"}
    async with opened(server, options=options) as sink:
        await sink.write([make_event(1)])
    headers = server.headers[server.names[0]]
    assert headers["x-amz-server-side-encryption"] == "AES256"
    assert headers["x-amz-checksum-sha256"]


async def test_credentials_come_from_the_environment_too(
    server: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    async with opened(server, access_key_id="", secret_access_key="") as sink:
        await sink.write([make_event(1)])
    signed = server.headers[server.names[0]]["Authorization"]
    assert "Credential=from-the-environment/" in signed
    assert "/eu-north-1/s3/" in signed


async def test_credentials_come_from_pod_identity_too(
    server: FakeS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("the-pods-token")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.endpoint}/pod-identity")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    async with opened(server, access_key_id="", secret_access_key="") as sink:
        await sink.write([make_event(1)])
    headers = server.headers[server.names[0]]
    assert "Credential=pod-key/" in headers["Authorization"]
    assert headers["x-amz-security-token"] == "pod-session"


async def test_no_credentials_anywhere_are_said(server: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    # The machine's own service, which is asked last, answers as one without a role does.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", server.endpoint)
    error = await opening(settings(server, access_key_id="", secret_access_key=""))
    assert isinstance(error, ConfigError)
    assert "no credentials for s3://lake/events" in str(error)


async def test_a_machine_whose_service_has_trouble_is_asked_again(
    server: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", server.endpoint + "/lake")
    server.fail["latest/api/token"] = (500, "Odd")
    error = await opening(settings(server, access_key_id="", secret_access_key=""))
    assert isinstance(error, TransientError)
    assert "no credentials" in str(error)


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
async def test_an_upload_that_is_under_way_elsewhere_is_not_taken_for_stored(
    server: FakeS3, code: str
) -> None:
    async with opened(server) as sink:
        server.fail["configmaps"] = (409, code)
        with pytest.raises(TransientError, match=f"another upload .* under way .{code}") as caught:
            await sink.write([make_event(1)])
        assert caught.value.written == 0
        server.fail.clear()
        await sink.write([make_event(1)])
        assert len(server.names) == 1


def test_azures_word_for_what_is_there_is_understood() -> None:
    text = "already exists: Server returned non-2xx status code: 409 Conflict: <Code>{}</Code>"
    assert is_stored(AlreadyExistsError(text.format("BlobAlreadyExists")))
    assert not is_stored(AlreadyExistsError(text.format("LeaseAlreadyPresent")))


async def test_an_endpoint_from_the_environment_without_tls_is_said(
    server: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    error = await opening(settings(server, endpoint="", allow_http=False))
    assert isinstance(error, ConfigError)
    assert "set allow_http = true" in str(error)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "ftp://lake"}, "is none of"),
        ({"url": "lake"}, "is none of"),
        ({"url": "s3:///folder"}, "names no bucket"),
        ({"url": "file://folder/x"}, "is no absolute path"),
        ({"url": "s3://me:secret@lake"}, "bucket and folder alone"),
        ({"url": "s3://lake?region=x"}, "bucket and folder alone"),
        ({"url": "gs://lake", "region": "eu"}, "region is for s3:// alone"),
        ({"url": "az://lake", "access_key_id": "a", "secret_access_key": "b"}, "is for s3:// alone"),
        ({"access_key_id": "a"}, "belong together"),
        ({"secret_access_key": "a"}, "belong together"),
        ({"session_token": "a"}, "session_token without"),
        ({"profile": "p", "access_key_id": "a", "secret_access_key": "b"}, "two ways"),
        ({"options": {"AWS_REGION": "eu"}}, "has a setting of its own: region"),
        ({"options": {"secret_access_key": SECRET}}, "has a setting of its own"),
        ({"endpoint": "minio:9000"}, "is no address"),
        ({"endpoint": "http://minio:9000"}, "set allow_http = true"),
        ({"prefix": "{what}"}, "unknown field"),
    ],
)
def test_contradictions_are_refused_before_anything_runs(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        S3Sink(S3Config(**{"url": "s3://lake", **changes}), context())
    assert str(caught.value).startswith("sinks.lake")
    assert SECRET not in str(caught.value)


def test_a_profile_without_boto3_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kexport_s3.store.importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"kexport-s3\[profiles\]"):
        S3Sink(S3Config(url="s3://lake", profile="prod"), context())


async def test_authorities_come_from_a_file(tmp_path: Path) -> None:
    config = S3Config(url="s3://lake", ca_file=str(tmp_path / "no.pem"))
    assert "cannot be read" in str(await opening(config))
    (tmp_path / "no.pem").write_text("nothing")
    assert "No certificates found" in str(await opening(config))


async def test_a_folder_that_cannot_be_made_is_said() -> None:
    error = await opening(S3Config(url="file:///proc/nowhere"))
    assert isinstance(error, ConfigError)
    assert "choose a folder" in str(error)


@pytest.mark.parametrize("url", ["abfss://container@account.dfs.core.windows.net/folder", "az://container"])
def test_azure_is_addressed_in_its_own_ways(url: str) -> None:
    S3Sink(S3Config(url=url), context())
