"""Live changes on the terminal, through the real engine: the journal in memory, and one sink that prints."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from typing_extensions import override

from kexport import difftext, plan
from kexport.change import Stream
from kexport.config import Config, SinkSettings
from kexport.discovery import Catalogue
from kexport.disk import MEMORY
from kexport.engine import Engine
from kexport.errors import KexportError
from kexport.event import Event
from kexport.sink import BatchConfig, Sink, SinkConfig, SinkType
from kexport.tables import ClusterConfig, HttpConfig, JournalConfig, ResourceConfig, RetryConfig, Root
from kexport.terminal import Colour, paint, plain

NAME = "terminal"
SHUTDOWN_SECONDS = 0.5
MEMORY_BYTES = 256 << 20  # a terminal that is held (Ctrl-S, a pager) stops the watches beyond this
FOR_EVER_SECONDS = 365 * 86400.0
MESSAGE_CHARACTERS = 80
_SIGNS: dict[str, tuple[str, Colour]] = {
    "added": ("+", "green"),
    "modified": ("~", "yellow"),
    "deleted": ("-", "red"),
    "left": ("-", "red"),
    "gap": ("gap", "magenta"),
    "synced": ("=", "dim"),
    "rollback": ("gap", "magenta"),
}
_UNUSUAL = re.compile(r"[^ -~]")
_Render = Callable[[Event], str]


class Options(NamedTuple):
    """What to show; `cluster` has its name already, so that events need nothing from kube-system."""

    cluster: ClusterConfig
    resources: Sequence[str]
    namespaces: Sequence[str] = ()
    label_selector: str = ""
    field_selector: str = ""
    since_now: bool = False
    style: str = "line"
    diff: bool = False
    coloured: bool = False


class TerminalSink(Sink):
    """Writes to a file descriptor; when nobody reads there any more it sets `stop`, and that is no error."""

    def __init__(self, out: int, render: _Render, stop: asyncio.Event) -> None:
        self._out = out
        self._render = render
        self._stop = stop
        self.error = ""

    @override
    async def write(self, events: Sequence[Event]) -> None:
        text = "".join(self._render(event) + "\n" for event in events)
        try:
            await asyncio.to_thread(_write, self._out, text.encode(errors="replace"))
        except BrokenPipeError:
            self._stop.set()
        except OSError as error:
            self.error = f"cannot write to standard output: {error.strerror}"
            self._stop.set()


async def tail(options: Options, stop: asyncio.Event, *, out: int = 1) -> None:
    """Print changes until `stop` is set or nobody reads them; raises KexportError."""
    render = _json_renderer(safe=os.isatty(out)) if options.style == "json" else _line_renderer(options)
    sink = TerminalSink(out, render, stop)
    # A reader that left shows on the pipe at once, and not only when the next change is written.
    piped = stat.S_ISFIFO(os.fstat(out).st_mode)
    if piped:
        asyncio.get_running_loop().add_reader(out, stop.set)
    try:
        await Engine(_config(options, sink)).run(stop)
    finally:
        if piped:
            asyncio.get_running_loop().remove_reader(out)
    if sink.error:
        raise KexportError(sink.error)


def streams(options: Options, catalogue: Catalogue) -> list[Stream]:
    """What would be watched; raises ConfigError for a name that the server does not have."""
    return plan.streams(_resources(options), catalogue)


def _resources(options: Options) -> tuple[ResourceConfig, ...]:
    return tuple(
        ResourceConfig(
            resource=name,
            namespaces=tuple(options.namespaces),
            label_selector=options.label_selector,
            field_selector=options.field_selector,
            initial="silent" if options.since_now else "emit",
            diff=options.diff,
        )
        for name in options.resources
    )


def _config(options: Options, sink: Sink) -> Config:
    kind = SinkType(NAME, SinkConfig, lambda _settings, _context: sink, batch=BatchConfig(max_events=500))
    root = Root(
        resources=_resources(options),
        sinks={NAME: {"type": NAME}},
        cluster=options.cluster,
        journal=JournalConfig(path=MEMORY, max_bytes=MEMORY_BYTES, keep_seconds=0),
        http=HttpConfig(listen=""),
        shutdown_seconds=SHUTDOWN_SECONDS,
    )
    settings = SinkSettings(
        name=NAME,
        type=kind,
        config=SinkConfig(),
        batch=kind.batch,
        retry=RetryConfig(),
        # A held terminal is no failed write: a second try would print everything twice.
        timeout_seconds=FOR_EVER_SECONDS,
        rejects_to="",
    )
    return Config(root, {NAME: settings}, {})


def _write(out: int, data: bytes) -> None:
    """All of it, unbuffered: nothing is left that could fail at exit."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(out, view) :]
        except BlockingIOError:  # a terminal that another program has set to non-blocking
            select.select([], [out], [])


# -- one event as text ------------------------------------------------------------------------------------


def _json_renderer(*, safe: bool) -> _Render:
    """The event's own JSON; for a terminal, characters that could act on it are written as escapes."""
    if not safe:
        return lambda event: event.line.decode()
    return lambda event: _UNUSUAL.sub(_escaped, event.line.decode())


def _escaped(found: re.Match[str]) -> str:
    """A character that a terminal might act on, or show as nothing, as JSON's escape."""
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1].replace("\x7f", "\\u007f")


def _line_renderer(options: Options) -> _Render:
    def render(event: Event) -> str:
        changed = difftext.lines(event, coloured=options.coloured) if options.diff else []
        return "\n".join([line(event, coloured=options.coloured), *changed])

    return render


def line(event: Event, *, coloured: bool) -> str:
    """`12:03:44.123 +   Pod shop/web-1 1043 snapshot Running`; nothing in it can act on a terminal."""
    attributes = event.attributes
    sign, colour = _SIGNS.get(event.change, ("?", "dim"))
    time = f"{event.time.astimezone():%H:%M:%S.%f}"[:-3]
    body = event.data.get("object") or {}
    if attributes.type.startswith("io.kexport.stream."):
        subject, words = attributes.subject, _about_stream(event.change, body)
    else:
        subject, words = f"{attributes.kind} {attributes.subject}", _about_object(event, body)
    text = " ".join(filter(None, [subject, attributes.resourceversion, words]))
    return f"{time} {paint(sign.ljust(3), colour, coloured=coloured)} {plain(text)}"


def _about_stream(change: str, body: Mapping[str, Any]) -> str:
    if change == "synced":
        return f"{body.get('objects', '?')} objects; changes from here on"
    if "dropped" in body:
        return f"{body['dropped']} events were dropped: {body.get('reason')}"
    counts = ", ".join(f"{body[each]} {each}" for each in ("added", "modified", "deleted") if each in body)
    complete = "every version recovered" if body.get("complete") else f"inferred: {counts}"
    return f"since {body.get('from') or 'the start'}: {body.get('reason', '')}; {complete}"


def _about_object(event: Event, body: Mapping[str, Any]) -> str:
    """A few words that tell states apart: where the change came from, and how the object is."""
    origin = event.attributes.origin
    words = ["" if origin == "watch" else origin]
    if event.change == "left":
        words.append("no longer selected")
    elif event.change != "deleted":
        words.append("terminating" if _part(body, "metadata").get("deletionTimestamp") else "")
        words.append(_state(body))
        words.append(f"by {event.attributes.manager}" if event.attributes.manager else "")
    return " ".join(filter(None, words))


def _state(body: Mapping[str, Any]) -> str:
    status, spec = _part(body, "status"), _part(body, "spec")
    if isinstance(phase := status.get("phase"), str):
        return phase
    if isinstance(replicas := spec.get("replicas"), int):
        return f"{status.get('readyReplicas') or 0}/{replicas} ready"
    if "involvedObject" in body or "regarding" in body:  # Events speak for themselves
        message = f"{body.get('reason', '')}: {body.get('message') or body.get('note') or ''}"
        return message if len(message) <= MESSAGE_CHARACTERS else message[: MESSAGE_CHARACTERS - 1] + "…"
    return ""


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that should be an object; a custom resource may have anything there."""
    value = body.get(name)
    return value if isinstance(value, dict) else {}
