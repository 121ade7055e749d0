"""The seam between the sink and a protocol: one request at a time, and what became of its records."""

from __future__ import annotations

from typing import Protocol

from kexport_otlp.config import Endpoint, OtlpConfig
from kexport_otlp.verdict import Verdict, Voice


class Client(Protocol):
    """Connects when needed, and anew after a failure: certificate files may be new by then."""

    async def export(self, request: bytes) -> Verdict:
        """Send a serialized ExportLogsServiceRequest.

        Raises TransientError for every answer that does not settle the fate of its records, and for none.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection; the next export makes another."""
        ...


def make_client(config: OtlpConfig, endpoint: Endpoint, *, voice: Voice) -> Client:
    """The client of the configured protocol; does no I/O yet."""
    # Each protocol's library takes a while to import: only for those who chose it.
    if config.protocol == "grpc":
        from kexport_otlp.grpcclient import GrpcClient  # noqa: PLC0415

        return GrpcClient(config, endpoint, voice=voice)
    from kexport_otlp.httpclient import HttpClient  # noqa: PLC0415

    return HttpClient(config, endpoint, voice=voice)
