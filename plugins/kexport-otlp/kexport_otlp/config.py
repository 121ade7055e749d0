"""The settings of `type = "otlp"`, and what can be said about them without any I/O."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, field
from yarl import URL

from kexport import ConfigError, SinkConfig

Compression = Literal["gzip", "none"]
Protocol = Literal["http/protobuf", "grpc"]

USER_AGENT = f"kexport-otlp/{version('kexport')}"  # released together

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
# HTTP/2's and gRPC's rules are narrower; "-bin" values would be bytes, which no setting can hold.
_METADATA_NAME = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
_OURS = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "host"})
_OURS_GRPC = frozenset({"te", "connection"})


class OtlpConfig(SinkConfig, frozen=True, kw_only=True):
    """Which server, and how."""

    endpoint: Annotated[
        str,
        Meta(
            min_length=1,
            description="URL of the server, such as http://collector:4318; /v1/logs is added when it has"
            " no path. For gRPC without a path, such as http://collector:4317.",
        ),
    ]
    protocol: Annotated[
        Protocol,
        Meta(description="How the server is spoken to, by OTEL_EXPORTER_OTLP_PROTOCOL's names."),
    ] = "http/protobuf"
    headers: Annotated[
        dict[str, str],
        Meta(description="Headers of every request, such as authorization; secrets best as ${NAME}."),
    ] = field(default_factory=dict)
    compression: Annotated[Compression, Meta(description="How requests are compressed.")] = "gzip"
    request_timeout_seconds: Annotated[
        float, Meta(gt=0, description="A request without an answer for so long has failed.")
    ] = 30.0
    max_request_bytes: Annotated[
        int,
        Meta(
            ge=1,
            description="Most bytes in one request before compression; one larger event still goes, alone.",
        ),
    ] = 4_000_000
    ca_file: Annotated[
        str, Meta(description="PEM file of the authorities that may sign the server; empty: the system's.")
    ] = ""
    cert_file: Annotated[str, Meta(description="PEM file of this client's certificate.")] = ""
    key_file: Annotated[
        str, Meta(description="PEM file of this client's key; empty: it is in cert_file.")
    ] = ""
    resource_attributes: Annotated[
        dict[str, str | int | float | bool],
        Meta(
            description="Resource attributes, over OTEL_RESOURCE_ATTRIBUTES and the default"
            ' "service.name" = "kexport".'
        ),
    ] = field(default_factory=dict)


class Endpoint(NamedTuple):
    """Where requests go, and how that is shown: a query may hold a key."""

    url: URL
    shown: str


def checked(config: OtlpConfig, *, place: str) -> Endpoint:
    """The endpoint of settings that make sense; raises ConfigError, without a secret, for others."""
    _check_headers(config, place=place)
    for name, number in config.resource_attributes.items():
        if isinstance(number, int) and not -(2**63) <= number < 2**63:
            raise ConfigError(
                f"{place}.resource_attributes: {name} has more than 64 bits: write it as a string"
            )
    if config.key_file and not config.cert_file:
        raise ConfigError(f"{place}: key_file without cert_file: set both")
    if config.protocol == "grpc" and importlib.util.find_spec("grpc") is None:
        raise ConfigError(
            f'{place}: protocol = "grpc" needs grpcio, which is not installed:'
            " pip install 'kexport-otlp[grpc]', or remove protocol"
        )
    endpoint = _endpoint(config, place=place)
    if endpoint.url.scheme == "http" and (config.ca_file or config.cert_file):
        raise ConfigError(f"{place}: ca_file and cert_file need an endpoint that begins with https://")
    return endpoint


def _check_headers(config: OtlpConfig, *, place: str) -> None:
    grpc = config.protocol == "grpc"
    for name, value in config.headers.items():
        if not _HEADER_NAME.fullmatch(name) or (grpc and not _METADATA_NAME.fullmatch(name.lower())):
            raise ConfigError(f"{place}.headers: {name!r} is no name of a header: correct it")
        if name.lower() in _OURS or (grpc and name.lower() in _OURS_GRPC):
            raise ConfigError(f"{place}.headers: {name} is the sink's own: remove it")
        if not _HEADER_VALUE.fullmatch(value):
            raise ConfigError(
                f"{place}.headers: the value of {name} has a line break or the like: correct it"
            )
        if grpc and not _METADATA_VALUE.fullmatch(value):
            raise ConfigError(
                f"{place}.headers: the value of {name} has a tab or letters that gRPC can't send: correct it"
            )


def _endpoint(config: OtlpConfig, *, place: str) -> Endpoint:
    try:
        url = URL(config.endpoint)
        _ = url.port  # looked at only when asked for
    except ValueError:  # its text has the URL's, and may so have a password
        raise ConfigError(f"{place}.endpoint: is no URL: write it as http://collector:4318") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"{place}.endpoint: must begin with http:// or https:// and name a host")
    if url.user or url.password:
        raise ConfigError(f"{place}.endpoint: has a password in it: give headers an authorization instead")
    if config.protocol == "grpc":
        if url.path not in {"", "/"} or url.query:
            raise ConfigError(
                f"{place}.endpoint: gRPC has no path and no query: write it as {url.origin()},"
                ' or use protocol = "http/protobuf"'
            )
        return Endpoint(url, str(url.origin()))
    if url.path in {"", "/"}:
        url = url.with_path("/v1/logs", keep_query=True)
    return Endpoint(url, f"{url.origin()}{url.path}")
