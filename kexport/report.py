"""What `kexport status` and `kexport journal` print: for people, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kexport.errors import ConfigError, KexportError
from kexport.inspection import Inspection, holder, inspect
from kexport.remote import ask
from kexport.request import Status
from kexport.tables import Root
from kexport.terminal import plain, table


def status(root: Root, *, style: str) -> str:
    """The state in words, or as JSON."""
    document = state(root)
    return json.dumps(document, indent=2) if style == "json" else in_words(document)


def state(root: Root) -> dict[str, Any]:
    """The state of the process that runs with this configuration, or what its journal tells without one.

    `running` says which: true, false, or null for a process that holds the journal and does not answer.
    """
    directory = Path(root.journal.path)
    pid = holder(directory)
    if pid is not None:
        with suppress(KexportError):
            return {"running": True, **ask(directory, Status())["status"]}
    with inspect(directory) as journal:
        stored = journal.status()
        named = {"cluster": root.cluster.name or stored["cluster"]}  # as the process that runs would say
        return {"running": None if pid is not None else False, **stored, **named}


def in_words(document: dict[str, Any]) -> str:
    """The state as a few tables."""
    parts = [headline(document)]
    streams = [
        [each["key"], each["state"], each["resource_version"] or "-", seconds(each.get("heard_seconds")),
         each.get("error", "")]
        for each in document["streams"]
    ]  # fmt: skip
    parts.append(table([["STREAM", "STATE", "VERSION", "HEARD", "ERROR"], *streams]))
    sinks = [
        [each["name"], each.get("state", "-"), f"{each['lag_events']}", seconds(each.get("lag_seconds")),
         f"{each.get('delivered', '-')}", f"{each['dropped']}", each.get("error", "")]
        for each in document["sinks"]
    ]  # fmt: skip
    parts.append(table([["SINK", "STATE", "BEHIND", "LAG", "DELIVERED", "DROPPED", "ERROR"], *sinks]))
    journal = document["journal"]
    parts.append(
        f"journal: {journal['events']} events, {journal['bytes']} bytes,"
        f" the oldest {seconds(journal['oldest_seconds'])} old"
    )
    if journal.get("failing"):
        parts.append(f"journal cannot be written: {plain(journal['failing'])}")
    gaps = document.get("gaps", ())
    parts += [plain(f"{each['kind']} at {each['time']}: {each['stream']} {each['reason']}") for each in gaps]
    return "\n\n".join(parts)


def headline(document: dict[str, Any]) -> str:
    if document["running"]:
        ready = "ready" if document["ready"] else "not ready"
        up = seconds(document["uptime_seconds"])
        return plain(f"kexport {document['version']}, process {document['pid']}, up {up}: {ready}")
    if document["running"] is None:
        return "kexport runs, and does not answer at its control socket; this is what its journal tells"
    return "kexport does not run; this is what its journal tells"


def seconds(count: float | None) -> str:
    if count is None:
        return "-"
    if count < 120:
        return f"{count:.1f} s"
    return f"{count / 60:.0f} min" if count < 7200 else f"{count / 3600:.1f} h"


# -- kexport journal ----------------------------------------------------------------------------------------


def journal(root: Root, what: str, *, events: str, resource: str) -> int:
    """List, print or verify what is stored; the exit code: 1 if something is wrong with it."""
    with inspect(Path(root.journal.path)) as stored:
        if what == "ls":
            print(chunks(stored))
        elif what == "cat":
            printed = 0
            for line in stored_lines(stored, events, resource):
                printed += sys.stdout.buffer.write(line + b"\n")
            if not printed:
                print(_nothing(stored, resource), file=sys.stderr)
        elif problems := list(stored.problems()):
            print(*map(plain, problems), sep="\n")
            return 1
        else:
            print("the journal is sound")
    return 0


def _nothing(journal: Inspection, resource: str) -> str:
    """Why `cat` printed nothing: an empty answer and a misspelt name look alike."""
    stored = list(journal.chunks())
    if not stored:
        return "kexport: the journal has no events"
    there = f"the journal has {stored[0].first}-{stored[-1].last}"
    names = (
        sorted({event.attributes.resource for event in journal.events(0, stored[-1].last)})
        if resource
        else ()
    )
    return f"kexport: no such event; {there}" + (f", of {', '.join(map(plain, names))}" if names else "")


def chunks(journal: Inspection) -> str:
    """What is stored, a row a chunk, and where each sink stands."""
    rows = [["EVENTS", "COUNT", "BYTES", "WRITTEN"]]
    rows += [
        [
            f"{each.first}-{each.last}",
            f"{each.last - each.first + 1}",
            f"{each.bytes}",
            f"{datetime.fromtimestamp(each.at, UTC):%Y-%m-%dT%H:%M:%SZ}",
        ]
        for each in journal.chunks()
    ]
    lanes = [["SINK", "DONE UP TO", "DROPPED"]]
    lanes += [[name, f"{lane.cursor}", f"{lane.dropped}"] for name, lane in sorted(journal.lanes.items())]
    return f"{table(rows)}\n\n{table(lanes)}"


def stored_lines(journal: Inspection, span: str, resource: str) -> Iterator[bytes]:
    """The stored CloudEvents, one a line; `span` is "", "N", "N-", "-N" or "N-M"."""
    first, last = _span(span)
    for event in journal.events(first, last):
        if not resource or event.attributes.resource == resource:
            yield event.encode()


def _span(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if any(part and not part.isdigit() for part in (low, high)):
        raise ConfigError(
            f"{text!r} names no events: write 17, 17-42, 17- or -42, as `kexport journal ls` does"
        )
    first = int(low or 0)
    last = int(high) if high else (first if low and not dash else (1 << 63) - 1)
    if last < first:
        raise ConfigError(f"{text!r} names no events: its end is before its beginning; write {last}-{first}")
    return first, last
