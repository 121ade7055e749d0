"""What `kexport check` reports, as lines and as JSON."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kexport.change import Resource, Stream, StreamKey
from kexport.config import Config
from kexport.errors import ApiError, ConfigError, ConnectionLostError
from kexport.terminal import plain

OK, MAY_PASS, MUST_CHANGE = 0, 1, 2


class Finding(NamedTuple):
    """One thing that was looked at, and what came of it; a `warning` is odd but in nobody's way."""

    what: str
    text: str
    code: int = OK
    warning: bool = False

    @property
    def status(self) -> str:
        return "problem" if self.code else "warning" if self.warning else "ok"


@dataclass
class Report:
    """All findings, and what the configuration means."""

    findings: list[Finding] = field(default_factory=list)
    streams: dict[StreamKey, Stream] = field(default_factory=dict)
    sinks: dict[str, str] = field(default_factory=dict)
    stuck: bool = False
    """Whether a plugin still waits for something, and might do so in a thread."""

    @property
    def code(self) -> int:
        return max((finding.code for finding in self.findings), default=OK)


def document(report: Report) -> str:
    """The report as JSON."""
    streams = [
        {
            "stream": stream.key,
            "resource": stream.resource.full_name,
            "namespace": stream.namespace,
            "namespace_patterns": stream.only_namespaces,
            "label_selector": stream.label_selector,
            "field_selector": stream.field_selector,
        }
        for stream in report.streams.values()
    ]
    checks = [{"what": each.what, "status": each.status, "text": each.text} for each in report.findings]
    whole = {"exit_code": report.code, "checks": checks, "streams": streams, "sinks": report.sinks}
    return json.dumps(whole, indent=2, ensure_ascii=False)


def summary(report: Report) -> Iterator[str]:
    """What would be watched and where to, and the verdict."""
    if report.streams:
        yield f"\n{count(len(report.streams), 'stream')} to watch:"
        yield from (f"  {plain(stream.key)}" for stream in report.streams.values())
    if report.sinks:
        yield f"\n{count(len(report.sinks), 'sink')} to write to:"
        yield from (f"  {name} ({share.replace(': ', '): ', 1)}" for name, share in report.sinks.items())
    problems = sum(finding.code != OK for finding in report.findings)
    yield f"\n{count(problems, 'problem')} found" if problems else "\nall is well"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def where(resource: Resource, namespace: str | None) -> str:
    if namespace:
        return f"in namespace {namespace}"
    return "in all namespaces" if resource.namespaced else "in the cluster"


def code_of(error: BaseException) -> int:
    """Whether it may pass by itself, or somebody has to change something."""
    if isinstance(error, ConnectionLostError) and isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return MUST_CHANGE
    if isinstance(error, ApiError) and error.status in {400, 401, 403, 404}:
        return MUST_CHANGE
    return MUST_CHANGE if isinstance(error, ConfigError) else MAY_PASS


def own_place(message: str, place: str) -> tuple[str, str]:
    """An error's own place, if it names one within this place, and the rest of it."""
    own, colon, rest = message.partition(": ")
    return (own, rest) if colon and own.startswith(place) else (place, message)


def share_of(name: str, config: Config) -> str:
    """Which events a sink gets, in words."""
    routes = [f"routes[{n}]" for n, route in enumerate(config.root.routes) if name in route.sinks]
    rejects = [f"what {sink.name} rejects" for sink in config.sinks.values() if sink.rejects_to == name]
    if not config.root.routes and not rejects:
        return "everything"
    return ", ".join(routes + rejects) or "nothing, since no route names it"
