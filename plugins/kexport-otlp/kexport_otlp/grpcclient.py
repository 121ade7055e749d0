"""OTLP/gRPC, one call at a time: channel and time limits. Foreign exceptions end here."""

from __future__ import annotations

import asyncio

import grpc
from grpc import aio
from typing_extensions import override

from kexport_otlp.client import Client
from kexport_otlp.config import USER_AGENT, Endpoint, OtlpConfig
from kexport_otlp.grpcstatus import Status, judge, judge_response
from kexport_otlp.tls import load_pem
from kexport_otlp.verdict import Verdict, Voice

_EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_DETAILS = "grpc-status-details-bin"
# The line may be at fault: the next call gets a new one at once, where gRPC would wait ever longer.
_LOST = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNAUTHENTICATED"})


class GrpcClient(Client):
    """A channel that is made when needed, and again after a failure."""

    def __init__(self, config: OtlpConfig, endpoint: Endpoint, *, voice: Voice) -> None:
        self._config = config
        self._url = endpoint.url
        self._voice = voice
        self._channel: aio.Channel | None = None
        headers = {name.lower(): value for name, value in config.headers.items()}
        self._options = [
            ("grpc.primary_user_agent", headers.pop("user-agent", USER_AGENT)),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),  # the engine does that, and says so
            # Else a channel may inherit the line, and the waiting time, of one before it.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._metadata = tuple(headers.items())
        self._compression = (
            grpc.Compression.Gzip if config.compression == "gzip" else grpc.Compression.NoCompression
        )

    @override
    async def export(self, request: bytes) -> Verdict:
        channel = await self._get_channel()
        limit = self._config.request_timeout_seconds
        try:
            response = await channel.unary_unary(_EXPORT)(
                request,
                timeout=limit,
                metadata=self._metadata,
                compression=self._compression if request else grpc.Compression.NoCompression,
            )
        except aio.AioRpcError as error:
            status = _status(error)
            if status.code in _LOST:
                await self.close()
            return judge(status, voice=self._voice, limit_seconds=limit)
        return judge_response(response, voice=self._voice)

    @override
    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _get_channel(self) -> aio.Channel:
        if self._channel is None:
            target = f"dns:///{self._url.host_port_subcomponent}"
            if self._url.scheme == "https":
                pem = await asyncio.to_thread(load_pem, self._config, place=self._voice.place)
                credentials = grpc.ssl_channel_credentials(pem.authorities, pem.key, pem.certificate)
                self._channel = aio.secure_channel(target, credentials, options=self._options)
            else:
                self._channel = aio.insecure_channel(target, options=self._options)
        return self._channel


def _status(error: aio.AioRpcError) -> Status:
    details = dict(error.trailing_metadata() or ()).get(_DETAILS, b"")
    return Status(
        error.code().name, error.details() or "", details if isinstance(details, bytes) else details.encode()
    )
