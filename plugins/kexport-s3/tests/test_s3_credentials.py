"""Every standard way to AWS credentials, each asked of a server that gives them: found, used and renewed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kexport_s3.config import S3Config
from kexport_s3.sink import S3Sink

from kexport import ConfigError, TransientError
from kexport.testing import SinkLog, make_event

from .fake_aws import HIDDEN, TLS, FakeAws
from .fake_s3 import FakeS3
from .s3_arrangement import context, opened

BARE: dict[str, Any] = {"access_key_id": "", "secret_access_key": ""}
ROLE = "arn:aws:iam::123456789012:role/kexport"


@pytest.fixture
async def server() -> AsyncIterator[FakeS3]:
    async with FakeS3() as server:
        yield server


@pytest.fixture
async def aws() -> AsyncIterator[FakeAws]:
    async with FakeAws().running() as aws:
        yield aws


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture(params=["web identity", "pod identity", "machine"])
def way(request: Any, aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    token = tmp_path / "token"
    token.write_text("first-token")
    given = {
        "web identity": {
            "AWS_ENDPOINT_URL_STS": aws.sts,
            "SSL_CERT_FILE": str(TLS / "sts.crt"),
            "AWS_ROLE_ARN": ROLE,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_REGION": "eu-north-1",
        },
        "pod identity": {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{aws.address}/agent",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        },
        "machine": {"AWS_METADATA_ENDPOINT": aws.address},
    }
    for name, value in given[request.param].items():
        monkeypatch.setenv(name, value)
    return str(request.param)


def bare_settings(server: FakeS3, **changes: Any) -> S3Config:
    return S3Config(url="s3://lake/events", endpoint=server.endpoint, allow_http=True, **changes)


def signed(server: FakeS3, number: int) -> tuple[str, str]:
    """The key that the object of this event was signed with, and the session token beside it."""
    (name,) = [name for name in server.names if f"{number:020d}-" in name]
    headers = server.headers[name]
    key = headers["Authorization"].partition("Credential=")[2].partition("/")[0]
    return key, headers.get("x-amz-security-token", "")


async def test_credentials_of_a_role_are_found_and_kept_while_they_last(
    server: FakeS3, aws: FakeAws, way: str
) -> None:
    async with opened(server, **BARE) as sink:
        for number in range(1, 4):
            await sink.write([make_event(number)])
            assert signed(server, number) == ("key-1", "for-key-1")
    (asked,) = aws.asked
    if way == "web identity":
        assert asked["Action"] == "AssumeRoleWithWebIdentity"
        assert (asked["RoleArn"], asked["WebIdentityToken"]) == (ROLE, "first-token")
    else:
        assert asked in ({"Authorization": "first-token"}, {"Session": "session"})


async def test_credentials_that_are_about_to_end_are_renewed_without_a_restart(
    server: FakeS3, aws: FakeAws, way: str, tmp_path: Path
) -> None:
    aws.life = timedelta(seconds=2)
    async with opened(server, **BARE) as sink:
        await sink.write([make_event(1)])
        first = signed(server, 1)[0]
        (tmp_path / "token").write_text("second-token")
        before, given = len(aws.asked), 0
        number, deadline = 1, time.monotonic() + 20
        while given <= before + 1 and time.monotonic() < deadline:  # asked for at most ten times a second
            number += 1
            await sink.write([make_event(number)])
            given = len(aws.asked)
        assert given > before + 1
        assert signed(server, number)[0] not in {first, "key-1"}
    if way != "machine":
        assert "second-token" in aws.asked[-1].values()


@pytest.mark.parametrize(("status", "kind"), [(403, ConfigError), (503, TransientError)])
async def test_a_role_that_is_refused_is_said_without_the_token(
    server: FakeS3, aws: FakeAws, way: str, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    (tmp_path / "token").write_text(HIDDEN)
    aws.answer = (status, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
    log = SinkLog()
    sink = S3Sink(bare_settings(server), context(log))
    with pytest.raises(kind, match=r"sinks\.lake: no credentials for s3://lake/events .*AWS_") as failed:
        await sink.open()
    await sink.close()
    assert HIDDEN not in f"{failed.value} {failed.value!r} {log.text}"


async def test_sts_is_spoken_to_with_the_settings_authorities(
    server: FakeS3, aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.sts)
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    async with opened(server, **BARE, ca_file=str(TLS / "sts.crt")) as sink:
        await sink.write([make_event(1)])
    assert signed(server, 1) == ("key-1", "for-key-1")


async def test_a_profile_of_the_shared_files(server: FakeS3, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        f"[prod]\naws_access_key_id = shared\naws_secret_access_key = {HIDDEN}\n"
    )
    (tmp_path / "config").write_text("[profile prod]\nregion = eu-west-3\n")
    async with opened(server, **BARE, profile="prod") as sink:
        await sink.write([make_event(1)])
        assert HIDDEN not in repr(sink)
    assert signed(server, 1) == ("shared", "")
    assert "/eu-west-3/s3/" in server.headers[server.names[0]]["Authorization"]


async def test_the_setting_region_goes_before_the_profiles(server: FakeS3, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        f"[profile prod]\nregion = eu-west-3\naws_access_key_id = k\naws_secret_access_key = {HIDDEN}\n"
    )
    async with opened(server, **BARE, profile="prod", region="us-west-2") as sink:
        await sink.write([make_event(1)])
    assert "/us-west-2/s3/" in server.headers[server.names[0]]["Authorization"]


async def test_credentials_of_a_profile_are_renewed_and_their_source_may_be_away(
    server: FakeS3, tmp_path: Path
) -> None:
    """A process stands for single sign-on and assumed roles: boto3 knows when they end, and asks again."""
    away = tmp_path / "away"
    script = tmp_path / "give.py"
    script.write_text(
        "import datetime, json, pathlib, sys, time\n"
        f"if pathlib.Path({str(away)!r}).exists():\n"
        "    sys.exit('the token service is away')\n"
        "end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)\n"
        f"print(json.dumps(dict(Version=1, AccessKeyId=f'key-{{time.time_ns()}}', SecretAccessKey={HIDDEN!r},"
        " SessionToken='session', Expiration=end.isoformat())))\n"
    )
    (tmp_path / "config").write_text(f"[profile prod]\ncredential_process = {sys.executable} {script}\n")
    async with opened(server, **BARE, profile="prod") as sink:
        await sink.write([make_event(1)])
        away.touch()
        number, failure = 1, None
        deadline = time.monotonic() + 20
        while failure is None and time.monotonic() < deadline:
            try:
                await sink.write([make_event(number := number + 1)])
            except TransientError as error:
                failure = str(error)
        assert failure is not None
        assert "the profile gives no credentials for s3://lake/events" in failure
        assert "the token service is away" in failure
        assert HIDDEN not in failure
        away.unlink()
        await sink.write([make_event(number)])
    assert int(signed(server, number)[0][4:]) > int(signed(server, 1)[0][4:])


async def test_a_profile_whose_source_is_away_at_the_start_is_asked_again(
    server: FakeS3, tmp_path: Path
) -> None:
    script = tmp_path / "fail.py"
    script.write_text("import sys\nsys.exit('the token service is away')\n")
    (tmp_path / "config").write_text(f"[profile prod]\ncredential_process = {sys.executable} {script}\n")
    sink = S3Sink(bare_settings(server, profile="prod"), context())
    with pytest.raises(TransientError, match=r"sinks\.lake: profile 'prod' gives no credentials now"):
        await sink.open()
    await sink.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"profile 'prod'.*could not be found"),
        ("[profile prod]\nregion = eu-west-3\n", r"profile 'prod' gives no credentials"),
        (
            "[profile prod]\nrole_arn = x\nsource_profile = gone\n",
            r"profile 'prod' gives no credentials.*gone",
        ),
        ("[profile prod\n", r"profile 'prod' gives no credentials"),
    ],
)
async def test_a_profile_that_gives_nothing_is_said(
    server: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "config").write_text(text)
    sink = S3Sink(bare_settings(server, profile="prod"), context())
    with pytest.raises(ConfigError, match=words):
        await sink.open()
    await sink.close()
