"""The figures in OpenMetrics 1.0, or in Prometheus' text format 0.0.4 for those who ask for nothing newer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import ProcessCollector, exposition
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from typing_extensions import override

from kexport.figures import FIGURES, Figure, Labels, Value
from kexport.telemetry import Histogram
from kexport.view import View

OPENMETRICS = "application/openmetrics-text"


class Page(NamedTuple):
    body: bytes
    content_type: str


class Metrics(Collector):
    """Reads all figures in one go; nothing is kept here."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._process = ProcessCollector(registry=None)

    @override
    def collect(self) -> Iterator[Metric]:
        """Every figure as it is now; must be used up at once, on the loop on which they change."""
        for figure in FIGURES:
            yield _family(figure, figure.read(self._view))
        yield from self._process.collect()


def page(families: Iterable[Metric], accept: str) -> Page:
    """What was read, in the format that the Accept header asks for; slow, and may run in a thread."""
    registry = _Collected(families)
    if OPENMETRICS in accept.lower():
        body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return Page(body, f"{OPENMETRICS}; version=1.0.0; charset=utf-8")
    return Page(exposition.generate_latest(registry), exposition.CONTENT_TYPE_PLAIN_0_0_4)


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    @override
    def collect(self) -> Iterable[Metric]:
        return self._families


def _family(figure: Figure, readings: Iterable[tuple[Labels, Value]]) -> Metric:
    if figure.kind == "info":
        info = InfoMetricFamily(figure.name, figure.help)
        for labels, _ in readings:
            info.add_metric((), dict(zip(figure.labels, labels, strict=True)))
        return info
    if figure.kind == "histogram":
        histogram = HistogramMetricFamily(figure.name, figure.help, labels=figure.labels, unit=figure.unit)
        for labels, value in readings:
            assert isinstance(value, Histogram)
            histogram.add_metric(labels, _buckets(value), value.sum)
        return histogram
    make = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = make(
        figure.name, figure.help, labels=figure.labels, unit=figure.unit
    )
    for labels, value in readings:
        assert not isinstance(value, Histogram)
        family.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def reference() -> str:
    """docs/metrics.md."""
    rows = []
    for figure in FIGURES:
        suffix = {"counter": "_total", "info": "_info"}.get(figure.kind, "")
        labels = ", ".join(f"`{label}`" for label in figure.labels)
        rows.append(f"| `{figure.name}{suffix}` | {figure.kind} | {labels} | {figure.unit} | {figure.help} |")
    return _REFERENCE.format(rows="\n".join(rows))


_REFERENCE = """\
# Metrics

What `/metrics` answers at the address in `[http] listen`: OpenMetrics 1.0 text, or Prometheus text 0.0.4, as
the Accept header asks. Values are read at that moment. Counters start at 0 with the process; a stream's and a
sink's own begin again, too, when a reload starts it anew. An age that has no beginning yet is absent.

| name | kind | labels | unit | meaning |
|---|---|---|---|---|
{rows}

Beside these stand the `process_*` metrics of prometheus-client (CPU, memory, open files, start time).

- `stream` is a stream's key, as in the logs and in gap events: `pods/*`, `pods/shop?labels=app=web`. There
  are as many as the configuration names. `sink` is the name of a `[sinks.NAME]` table.
- A gap that is found as kexport starts is counted before anybody looked, so that `increase()` doesn't see
  it; `kexport_gap_age_seconds` tells of it all the same.
- `route` is the place of a `[[routes]]` table in the file, from 0, as in messages. A route has those counters
  whose condition it has; they go up when no other route gave the sink the event either.
- `type` and `origin` are those of the event; `reason` is that of the gap, up to its first colon.
- Lag counts from the moment in which a change was observed to the one in which the sink acknowledged it.
  `kexport_sink_lag_seconds` may be up to 0.05 s too high, more for what is long stored, never too low.

## Over OTLP

With `[telemetry] otlp_endpoint` (and `pip install 'kexport[otlp-metrics]'`; the image has it) the same
figures go to an OpenTelemetry Collector, or whatever takes OTLP/HTTP, every `interval_seconds`, those of
the process too. Names are as above, without `_total`. A counter becomes a cumulative, monotonic sum; an
info a gauge that is 1; a histogram one of explicit buckets, the same ones, without least and most, which
nobody keeps. The unit `seconds` is `s` there, `bytes` `By`, `ratio` `1`. The resource has `service.name`
(`kexport`), `service.version`, `service.instance.id` (the host's name) and `k8s.cluster.name`;
`resource_attributes` adds and replaces.

A far end that is down or slow costs one request an interval and nothing else. It is said once in the log, in
`/readyz?verbose`, and by `kexport_otlp_push_failures_total`. A failed reading is not sent again: the next one
has all that it had. `kexport check` sends a request without a metric.
"""
