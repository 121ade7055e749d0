"""The settings of `type = "webhook"`, and what can be said about them without any I/O."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, field
from yarl import URL

from kexport import ConfigError, SinkConfig

Mode = Literal["binary", "structured", "batched"]
Method = Literal["POST", "PUT"]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_OURS = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "host"})
_OUR_PREFIXES = ("ce-", "webhook-")
_SECRET_PREFIX = "whsec_"  # noqa: S105  (of every secret of Standard Webhooks)
_LEAST_SECRET_BYTES, _MOST_SECRET_BYTES = 24, 64


class WebhookConfig(SinkConfig, frozen=True, kw_only=True):
    """Which endpoint, and how."""

    url: Annotated[str, Meta(min_length=1, description="URL of the endpoint; only its host is ever shown.")]
    mode: Annotated[
        Mode,
        Meta(description="The CloudEvents content mode: an event a request, or many in one (batched)."),
    ] = "structured"
    method: Annotated[Method, Meta(description="The HTTP method of every request.")] = "POST"
    headers: Annotated[
        dict[str, str],
        Meta(description="Headers of every request, such as authorization; secrets best as ${NAME}."),
    ] = field(default_factory=dict)
    signing_secret: Annotated[
        str,
        Meta(
            description="Secret of Standard Webhooks (whsec_ and base64) that signs each body; empty:"
            " unsigned."
        ),
    ] = ""
    max_request_events: Annotated[
        int, Meta(ge=1, description="Most events in one request; only for batched.")
    ] = 100
    max_request_bytes: Annotated[
        int,
        Meta(
            ge=1,
            description="Most bytes in one request; one larger event still goes, alone; only for batched.",
        ),
    ] = 1_000_000
    request_timeout_seconds: Annotated[
        float, Meta(gt=0, description="A request without an answer for so long has failed.")
    ] = 30.0
    ca_file: Annotated[
        str, Meta(description="PEM file of the authorities that may sign the server; empty: the system's.")
    ] = ""
    cert_file: Annotated[str, Meta(description="PEM file of this client's certificate.")] = ""
    key_file: Annotated[
        str, Meta(description="PEM file of this client's key; empty: it is in cert_file.")
    ] = ""


class Endpoint(NamedTuple):
    """Where requests go, how that is shown, and what signs them; a path is often a secret, too."""

    url: URL
    shown: str
    signing_key: bytes = b""


def checked(config: WebhookConfig, *, place: str) -> Endpoint:
    """The endpoint of settings that make sense; raises ConfigError, without a secret, for others."""
    _check_headers(config, place=place)
    if config.key_file and not config.cert_file:
        raise ConfigError(f"{place}: key_file without cert_file: set both")
    url = _url(config.url, place=place)
    if url.scheme == "http" and (config.ca_file or config.cert_file):
        raise ConfigError(f"{place}: ca_file and cert_file need a url that begins with https://")
    if config.signing_secret and config.mode == "binary":
        raise ConfigError(
            f"{place}: signing_secret signs bodies, and in binary mode the attributes stand in headers:"
            ' set mode = "structured" or "batched"'
        )
    key = _signing_key(config.signing_secret, place=place) if config.signing_secret else b""
    return Endpoint(url, str(url.origin()), key)


def _check_headers(config: WebhookConfig, *, place: str) -> None:
    for name, value in config.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f"{place}.headers: {name!r} is no name of a header: correct it")
        if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIXES):
            raise ConfigError(f"{place}.headers: {name} is the sink's own: remove it")
        if not _HEADER_VALUE.fullmatch(value):
            raise ConfigError(
                f"{place}.headers: the value of {name} has a line break or the like: correct it"
            )


def _url(text: str, *, place: str) -> URL:
    try:
        url = URL(text)
        _ = url.port  # looked at only when asked for
    except ValueError:  # its text has the URL's, and may so have a secret
        raise ConfigError(f"{place}.url: is no URL: write it as https://host/path") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"{place}.url: must begin with http:// or https:// and name a host")
    if url.user or url.password:
        raise ConfigError(f"{place}.url: has a password in it: give headers an authorization instead")
    return url


def _signing_key(text: str, *, place: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _LEAST_SECRET_BYTES <= len(key) <= _MOST_SECRET_BYTES:
        raise ConfigError(
            f"{place}.signing_secret: must be {_SECRET_PREFIX} and the base64 of {_LEAST_SECRET_BYTES} to"
            f" {_MOST_SECRET_BYTES} random bytes: make one anew"
        )
    return key
