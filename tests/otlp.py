"""A far end for metrics over OTLP/HTTP, what it was sent, and the same figures as /metrics has them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import accumulate
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser
from prometheus_client.utils import floatToGoString

Series = tuple[str, frozenset[tuple[str, str]]]
Answer = Callable[[], Awaitable[web.Response]]


async def accept() -> web.Response:
    return web.Response(body=ExportMetricsServiceResponse().SerializeToString())


class Receiver:
    """Keeps what is sent to it; `answer` decides what it says."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answer: Answer = accept
        self.url = ""
        self._came = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        # aiohttp's server unpacks what is gzipped.
        body = await request.read()
        self.requests.append(ExportMetricsServiceRequest.FromString(body))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path_qs)
        async with self._came:
            self._came.notify_all()
        return await self.answer()

    async def until(self, requests: int) -> None:
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: len(self.requests) >= requests)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def unpacked(body: bytes) -> ExportMetricsServiceRequest:
    request: ExportMetricsServiceRequest = ExportMetricsServiceRequest.FromString(gzip.decompress(body))
    return request


def resource(request: ExportMetricsServiceRequest) -> dict[str, str]:
    (whole,) = request.resource_metrics
    return {each.key: each.value.string_value for each in whole.resource.attributes}


def metrics(request: ExportMetricsServiceRequest) -> Iterable[Any]:
    for whole in request.resource_metrics:
        for scope in whole.scope_metrics:
            yield from scope.metrics


def sent(request: ExportMetricsServiceRequest) -> dict[Series, float]:
    """Every value of a request, under the name and labels that it has on /metrics."""
    found: dict[Series, float] = {}
    for metric in metrics(request):
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            labels = {each.key: each.value.string_value for each in point.attributes}
            if kind == "histogram":
                found.update(_histogram(metric.name, labels, point))
                continue
            name = f"{metric.name}_total" if kind == "sum" else metric.name
            found[name, frozenset(labels.items())] = getattr(point, point.WhichOneof("value"))
    return found


def _histogram(name: str, labels: dict[str, str], point: Any) -> dict[Series, float]:
    bounds = [*map(floatToGoString, point.explicit_bounds), "+Inf"]
    counts = zip(bounds, accumulate(point.bucket_counts), strict=True)
    plain = frozenset(labels.items())
    return {
        **{(f"{name}_bucket", plain | {("le", bound)}): count for bound, count in counts},
        (f"{name}_count", plain): point.count,
        (f"{name}_sum", plain): point.sum,
    }


def scraped(text: str) -> dict[Series, float]:
    """Every value of a page in the OpenMetrics format."""
    return samples(parser.text_string_to_metric_families(text))


def samples(families: Iterable[Metric]) -> dict[Series, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
