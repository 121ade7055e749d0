"""What an operator sees: structured logs, and plain integers that cost the hot path nothing.

A log line is a constant sentence plus fields. Values that came from `${NAME}` in the configuration are
shown as that name wherever they would appear.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import override

LogFormat = Literal["json", "text"]
_FIELDS = "kexport_fields"


class Log:
    """A logger that takes fields: `log.warning("watch expired", stream=key)`."""

    def __init__(self, logger: logging.Logger, **fields: object) -> None:
        self._logger = logger
        self._fields = fields

    def bind(self, **fields: object) -> Log:
        return Log(self._logger, **{**self._fields, **fields})

    def debug(self, sentence: str, **fields: object) -> None:
        self._write(logging.DEBUG, sentence, fields)

    def info(self, sentence: str, **fields: object) -> None:
        """Life cycle: started, synced, stopped."""
        self._write(logging.INFO, sentence, fields)

    def warning(self, sentence: str, **fields: object) -> None:
        """Odd, but nothing is lost."""
        self._write(logging.WARNING, sentence, fields)

    def error(self, sentence: str, **fields: object) -> None:
        """Something is lost or held, and a human is needed."""
        self._write(logging.ERROR, sentence, fields)

    def exception(self, sentence: str, error: BaseException, **fields: object) -> None:
        """A bug, ours or a plugin's: the traceback goes along."""
        fields["error"] = f"{type(error).__name__}: {error}"
        self._write(logging.ERROR, sentence, fields, error)

    def _write(
        self, level: int, sentence: str, fields: Mapping[str, object], error: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, sentence, extra={_FIELDS: {**self._fields, **fields}}, exc_info=error)


def get_log(name: str, **fields: object) -> Log:
    return Log(logging.getLogger(f"kexport.{name}"), **fields)


class _Formatter(logging.Formatter):
    def __init__(self, masks: Mapping[str, str]) -> None:
        super().__init__()
        # Longest first, so that a secret which contains another one is masked whole.
        self._masks = sorted(masks.items(), key=lambda item: -len(item[0]))

    def mask(self, text: str) -> str:
        for value, name in self._masks:
            text = text.replace(value, name)
        return text

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        return dict(getattr(record, _FIELDS, {}))

    def stamp(self, record: logging.LogRecord) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class TextFormatter(_Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        # Masked before they are quoted, where a quote in a secret would have become an escape.
        fields = "".join(
            f" {key}={_plain(self.mask(str(value)))}" for key, value in self.fields(record).items()
        )
        line = f"{self.stamp(record)} {record.levelname:<7} {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return self.mask(line)


class JsonFormatter(_Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        # Masked before the encoding, where a quote in a secret would have become an escape.
        return json.dumps({key: self._masked(value) for key, value in entry.items()}, ensure_ascii=False)

    def _masked(self, value: object) -> object:
        return value if isinstance(value, bool | int | float | None) else self.mask(str(value))


def _plain(text: str) -> str:
    """A value as it may stand in a line; nothing of it can act on a terminal."""
    if text.isprintable():
        return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=') else text
    return json.dumps(text).replace("\x7f", "\\u007f")


def set_up_logs(
    *, style: LogFormat = "text", level: str = "INFO", masks: Mapping[str, str] | None = None
) -> None:
    """Send kexport's and its libraries' logs to standard error; standard output belongs to events."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((JsonFormatter if style == "json" else TextFormatter)(masks or {}))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kexport").setLevel(level.upper())


SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """How often something took how long; the last of `counts` is for what was above every bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True)
class StreamStats:
    """What one stream did; written by its informer alone."""

    state: str = "starting"
    synced: bool = False
    changes: int = 0
    watches: int = 0
    snapshots: int = 0
    gaps: int = 0
    inferred: int = 0
    unchanged: int = 0
    """Modifications in which nothing changed that is worth telling."""
    audits: int = 0
    audit_differences: int = 0
    version: str = ""
    heard: float = field(default_factory=time.monotonic)
    bookmark: float = 0.0
    """When the last bookmark came (monotonic); 0 before the first."""
    watched: float = 0.0
    """When the watch that is open was opened (monotonic); 0 while none is."""
    recovery_requests: int = 0
    error: str = ""


@dataclass(slots=True)
class LaneStats:
    """What one sink's lane did; written by the lane alone."""

    state: str = "starting"
    written: int = 0
    filtered: int = 0
    rejected: int = 0
    dropped: int = 0
    skipped: int = 0
    parked: int = 0
    """Given up by an operator; parked ones were stored elsewhere before."""
    retries: int = 0
    under_way: int = 0
    """The position up to which events were taken for a batch; those behind the cursor are on their way."""
    held_at: int = 0
    """The position of the event that the lane waits to deliver after trouble; 0 while there is none."""
    held_id: str = ""
    cursor: int = 0
    succeeded: float = 0.0
    """When a write was last acknowledged (monotonic); 0 before the first."""
    writes: Histogram = field(default_factory=Histogram)
    error: str = ""


@dataclass(slots=True)
class RouteStats:
    """What one route kept from one sink, where no other route gave it; None: it does no such thing."""

    undecided: int | None = None
    sampled_out: int | None = None
    rate_limited: int | None = None


@dataclass(slots=True)
class Stats:
    """Every stream's and lane's figures, by stream key and sink name."""

    streams: dict[str, StreamStats] = field(default_factory=dict)
    lanes: dict[str, LaneStats] = field(default_factory=dict)
    routes: dict[tuple[int, str], RouteStats] = field(default_factory=dict)
    """By the route's number in the configuration, and the sink."""
    waiting: list[str] = field(default_factory=list)
    """Configured resources that the server does not have (yet)."""
    reloads: int = 0
    reload_failures: int = 0
    reload_error: str = ""
    """Why the newest configuration was refused; "" when it is in force."""
    reloaded_at: float = field(default_factory=time.time)
    pushes: int = 0
    push_failures: int = 0
    push_error: str = ""
    """Why the newest push of the metrics failed; "" when it did not."""
