"""The figures as OTLP's data points: the list that `/metrics` is made of, in the OpenTelemetry SDK's types.

None of the SDK's instruments that are read at collection time is a histogram, so the points are made here,
without instruments: what `/metrics` would say at the same moment, bucket for bucket. All sums are cumulative.
A sum's start is when it was 0: with the process, at the reading before the one in which it first appeared, or
at the reading before the one in which it had become less.
"""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]  # has no types
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import ProcessCollector

from kexport import __version__
from kexport.errors import PushError
from kexport.figures import FIGURES, Figure, Labels
from kexport.telemetry import Histogram
from kexport.view import View

_UNITS = {"seconds": "s", "bytes": "By", "ratio": "1"}
_CUMULATIVE = sdk.AggregationTemporality.CUMULATIVE
_SCOPE = InstrumentationScope("kexport", __version__)
_Point = sdk.NumberDataPoint | sdk.HistogramDataPoint
_Series = tuple[str, Labels]


class _Sum(NamedTuple):
    """When it was 0 (nanoseconds since 1970), and how much it was when last read."""

    start: int
    total: float


class Points:
    """Reads all figures in one go; keeps of each sum when it began, and how much it was."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._process = ProcessCollector(registry=None)
        self._sums: dict[_Series, _Sum] = {}
        self._before: dict[_Series, _Sum] = {}
        self._read_at = self._started()

    def read(self, attributes: Mapping[str, str]) -> sdk.MetricsData:
        """Every figure as it is now; on the loop on which they change. `attributes` are the resource's."""
        now = time.time_ns()
        self._before, self._sums = self._sums, {}
        metrics = [*self._figures(now), *self._process_metrics(now)]
        self._read_at = now
        scope = sdk.ScopeMetrics(_SCOPE, metrics, schema_url="")
        return sdk.MetricsData([sdk.ResourceMetrics(self._resource(attributes), [scope], schema_url="")])

    def _figures(self, now: int) -> Iterator[sdk.Metric]:
        for figure in FIGURES:
            name = f"{figure.name}_info" if figure.kind == "info" else figure.name
            if points := [*self._points(figure, now)]:
                yield _metric(name, figure.help, figure.unit, figure.kind, points)

    def _points(self, figure: Figure, now: int) -> Iterator[_Point]:
        for labels, value in figure.read(self._view):
            attributes = dict(zip(figure.labels, labels, strict=True))
            series = figure.name, labels
            if isinstance(value, Histogram):
                yield _histogram(attributes, self._start(series, sum(value.counts)), now, value)
            elif figure.kind == "counter":
                yield sdk.NumberDataPoint(attributes, self._start(series, value), now, value)
            else:
                yield sdk.NumberDataPoint(attributes, 0, now, +value)  # +True is 1

    def _process_metrics(self, now: int) -> Iterator[sdk.Metric]:
        for family in self._process.collect():
            points = []
            for sample in family.samples:
                start = self._start((family.name, ()), sample.value) if family.type == "counter" else 0
                points.append(sdk.NumberDataPoint({}, start, now, sample.value))
            yield _metric(family.name, family.documentation, "", family.type, points)

    def _start(self, series: _Series, total: float) -> int:
        start, last = self._before.get(series, _Sum(self._read_at, 0.0))
        if total < last:
            start = self._read_at
        self._sums[series] = _Sum(start, total)
        return start

    def _started(self) -> int:
        """When the process began; now, where the system doesn't tell."""
        for family in self._process.collect():
            if family.name == "process_start_time_seconds":
                return int(family.samples[0].value * 1e9)
        return time.time_ns()

    def _resource(self, attributes: Mapping[str, str]) -> Resource:
        """Whose figures they are; the cluster's name may not be known yet."""
        ours = {
            "service.name": "kexport",
            "service.version": __version__,
            "service.instance.id": socket.gethostname(),
        }
        if self._view.cluster:
            ours["k8s.cluster.name"] = self._view.cluster
        resource = Resource(ours).merge(OTELResourceDetector().detect())
        return resource.merge(Resource(dict(attributes)))


def _metric(name: str, text: str, unit: str, kind: str, points: Iterable[_Point]) -> sdk.Metric:
    data: sdk.DataT
    if kind == "histogram":
        data = sdk.Histogram([p for p in points if isinstance(p, sdk.HistogramDataPoint)], _CUMULATIVE)
    else:
        numbers = [p for p in points if isinstance(p, sdk.NumberDataPoint)]
        data = sdk.Sum(numbers, _CUMULATIVE, is_monotonic=True) if kind == "counter" else sdk.Gauge(numbers)
    return sdk.Metric(name, text, _UNITS.get(unit, ""), data)


def _histogram(
    attributes: Mapping[str, str], start: int, now: int, value: Histogram
) -> sdk.HistogramDataPoint:
    """Nobody keeps the least and the most, so the point has none."""
    return sdk.HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(value.counts),
        sum=value.sum,
        bucket_counts=list(value.counts),
        explicit_bounds=list(value.bounds),
        min=None,  # type: ignore[arg-type]
        max=None,  # type: ignore[arg-type]
    )


def encoded(data: sdk.MetricsData) -> bytes:
    """A gzipped ExportMetricsServiceRequest; slow, and may run in a thread."""
    request: bytes = encode_metrics(data).SerializeToString()
    return gzip.compress(request, compresslevel=3)


def check(answer: bytes) -> None:
    """Raises PushError unless all was taken: an answer with status 200 may say otherwise."""
    try:
        partial = ExportMetricsServiceResponse.FromString(answer).partial_success
    except DecodeError as error:
        raise PushError("the answer is no OTLP answer; check telemetry.otlp_endpoint") from error
    if partial.rejected_data_points:
        raise PushError(f"{partial.rejected_data_points} points rejected: {partial.error_message[:200]}")
