"""Settings -> the store of the bucket; refuses what obstore would take for something else, or panic at."""

from __future__ import annotations

import importlib.util
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from kexport import ConfigError, TransientError
from kexport_s3.config import S3Config

Store = S3Store | GCSStore | AzureStore | LocalStore

_AWS, _AZURE = frozenset({"s3", "s3a"}), frozenset({"az", "azure", "adl", "abfs", "abfss"})
_SCHEMES = _AWS | _AZURE | {"gs", "file"}
_ONLY_AWS = (
    "region", "endpoint", "virtual_hosted", "access_key_id", "secret_access_key", "session_token", "profile",
)  # fmt: skip
_SETTING_OF = {
    **{name: name for name in ("region", "endpoint", "access_key_id", "secret_access_key", "session_token")},
    "virtual_hosted_style_request": "virtual_hosted",
    "endpoint_url": "endpoint",
    "endpoint_url_s3": "endpoint",
    "default_region": "region",
    "token": "session_token",
    "bucket": "url",
    "bucket_name": "url",
    "allow_http": "allow_http",
}

# boto3 alone knows when a profile's credentials end, and renews them 10 to 15 minutes before: obstore, which
# would keep them for half an hour, asks it for each request. Most answers come from memory.
_PROFILE_TTL = timedelta(minutes=1)


def check(config: S3Config, *, name: str) -> None:
    """Raise ConfigError for settings that contradict each other; touches nothing."""
    place = f"sinks.{name}"
    url = urlsplit(config.url)
    if url.scheme not in _SCHEMES:
        raise ConfigError(
            f'{place}: url {config.url!r} is none of "s3://bucket", "gs://…", "az://…", "file:///…"'
        )
    in_azure = url.scheme.startswith("abfs") and url.netloc.count("@") == 1  # abfss://container@account…
    if url.query or url.fragment or ("@" in url.netloc and not in_azure):
        raise ConfigError(f"{place}: url holds bucket and folder alone: move the rest into other settings")
    if bool(url.netloc) == (url.scheme == "file"):
        raise ConfigError(
            f'{place}: url {config.url!r} names no bucket: write it as "{url.scheme}://bucket/folder"'
            if url.scheme != "file"
            else f"{place}: url {config.url!r} is no absolute path: write it as file:///folder"
        )
    _check_credentials(config, place=place, aws=url.scheme in _AWS)
    _check_endpoint(config, place=place)


def _check_credentials(config: S3Config, *, place: str, aws: bool) -> None:
    for setting in () if aws else _ONLY_AWS:
        if getattr(config, setting):
            raise ConfigError(f"{place}: {setting} is for s3:// alone: use options")
    if bool(config.access_key_id) != bool(config.secret_access_key):
        raise ConfigError(f"{place}: access_key_id and secret_access_key belong together: set both or none")
    if config.session_token and not config.access_key_id:
        raise ConfigError(f"{place}: session_token without access_key_id: set access_key_id too")
    if config.profile and config.access_key_id:
        raise ConfigError(f"{place}: profile and access_key_id are two ways to one thing: remove one")
    if config.profile and importlib.util.find_spec("boto3") is None:
        raise ConfigError(
            f"{place}: profile needs boto3, which is not installed: pip install 'kexport-s3[profiles]'"
        )
    for key in config.options:
        own = _SETTING_OF.get(key.lower().removeprefix("aws_"))
        if own:
            raise ConfigError(f"{place}.options: {key!r} has a setting of its own: {own}")


def _check_endpoint(config: S3Config, *, place: str) -> None:
    if not config.endpoint:
        return
    endpoint = urlsplit(config.endpoint)
    if endpoint.scheme not in {"http", "https"} or not endpoint.hostname:
        raise ConfigError(
            f"{place}: endpoint {config.endpoint!r} is no address: write it as https://host:9000"
        )
    if endpoint.scheme == "http" and not config.allow_http:
        raise ConfigError(
            f"{place}: endpoint {config.endpoint} is without TLS: use https://, or set allow_http = true"
        )


def connect(config: S3Config, *, name: str) -> Store:
    """The store; does no request yet, but reads files. Raises ConfigError, or what obstore raises."""
    scheme = urlsplit(config.url).scheme
    if scheme == "file":
        folder = Path(urlsplit(config.url).path)
        return LocalStore(folder, mkdir=True)
    common: dict[str, Any] = {
        "client_options": _client_options(config, name=name),
        # Short: the engine tries again itself, and says so. A repeat of what went through meets itself.
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=20)},
    }
    if scheme == "gs":
        return GCSStore.from_url(config.url, config=_any(config.options), **common)
    if scheme in _AZURE:
        return AzureStore.from_url(config.url, config=_any(config.options), **common)
    if config.profile:
        common["credential_provider"] = _profile(config.profile, name=name)
    return S3Store.from_url(config.url, config=_any(_aws_options(config)), **common)


def _aws_options(config: S3Config) -> dict[str, str | bool]:
    """What is empty is left out, so that the environment decides."""
    given = {
        "region": config.region,
        "endpoint": config.endpoint,
        "access_key_id": config.access_key_id,
        "secret_access_key": config.secret_access_key,
        "session_token": config.session_token,
    }
    chosen: dict[str, str | bool] = {key: value for key, value in given.items() if value}
    if config.virtual_hosted:
        chosen["virtual_hosted_style_request"] = True
    return {**config.options, **chosen}


def _client_options(config: S3Config, *, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "timeout": timedelta(seconds=config.request_timeout_seconds),
        "connect_timeout": timedelta(seconds=min(10.0, config.request_timeout_seconds)),
        "user_agent": "kexport-s3",
    }
    if config.allow_http:
        options["allow_http"] = True
    if config.ca_file:
        try:
            options["root_certificate"] = Path(config.ca_file).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"sinks.{name}: ca_file {config.ca_file!r} cannot be read: {error.strerror}"
            ) from error
    return options


def _profile(profile: str, *, name: str) -> Any:
    """A provider of the profile's credentials, which may come from single sign-on or another role."""
    import boto3  # noqa: PLC0415  (takes a second and 36 MB: only for those who chose it)
    from botocore.exceptions import BotoCoreError, CredentialRetrievalError  # noqa: PLC0415
    from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415

    says = f"sinks.{name}: profile {profile!r} gives no credentials"
    try:
        return Boto3CredentialProvider(boto3.Session(profile_name=profile), ttl=_PROFILE_TTL)
    except CredentialRetrievalError as error:  # what it asks, such as a process, may be there again
        raise TransientError(f"{says} now ({error}): see what the profile asks for them") from error
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"{says}: {error}") from error


def _any(options: object) -> Any:
    """obstore declares each store's option names; whether it knows these, it says when it gets them."""
    return options
