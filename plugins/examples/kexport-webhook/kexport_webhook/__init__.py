"""The webhook sink: events as CloudEvents over HTTP, in any of the binding's three modes.

`write` returns when the endpoint has answered every request with a 2xx status.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexport import BatchConfig, SinkType, hookimpl
from kexport_webhook.config import WebhookConfig
from kexport_webhook.sink import WebhookSink

# Two of the three modes make a request an event: a write must end within the engine's time limit.
webhook_sink = SinkType(
    "webhook", WebhookConfig, WebhookSink, batch=BatchConfig(max_events=100, max_bytes=1_000_000)
)


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [webhook_sink]
