"""`kexport snapshot`, `replay` and `sinks`: what an operator asks of the exporter that runs."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from kexport import offline, report
from kexport.errors import ConfigError, KexportError
from kexport.inspection import holder
from kexport.remote import NotRunningError, ask
from kexport.replay import Repeat, Replay
from kexport.request import GiveUp, Retry, Snapshot, Status
from kexport.request import Replay as ReplayRequest
from kexport.settings import nearest
from kexport.tables import Root
from kexport.terminal import plain, table

REPLAY_SECONDS = 120.0  # to find a moment in a large journal
GIVE_UP_SECONDS = 90.0  # a write that is under way, storing, and the disk


def snapshot(arguments: argparse.Namespace, root: Root) -> str:
    """Ask for it, and wait until all is told."""
    request = Snapshot(
        resource=arguments.resource, namespace=arguments.namespace or "", wait=not arguments.no_wait
    )
    answer = ask(Path(root.journal.path), request, wait_seconds=None)
    streams = ", ".join(answer["streams"])
    if answer["objects"] is None:
        return f"asked for: {streams}; told as soon as the API server answers"
    return f"told {answer['objects']} objects again: {streams}"


def replay(arguments: argparse.Namespace, root: Root) -> str:
    """Set the sink's place back, in the process that runs or else in its journal."""
    if arguments.since is None and not arguments.sequence and not arguments.oldest:
        raise ConfigError("replay: say from where: --since 2h, --from SEQ, or --oldest for all there is")
    since = 0.0 if arguments.since is None else max(0.0, time.time() - arguments.since)
    wanted = Replay(arguments.sequence, since, arguments.oldest)
    sink, directory = arguments.sink, Path(root.journal.path)
    request = ReplayRequest(sink=sink, sequence=wanted.sequence, since=since, oldest=wanted.oldest)
    running = True
    try:
        repeat = Repeat(**ask(directory, request, wait_seconds=REPLAY_SECONDS))
    except NotRunningError:
        if holder(directory) is not None:
            raise
        repeat, running = offline.replay(directory, sink, wanted), False
    if not repeat.events:
        return f"nothing to repeat: the sink {sink} has not come to event {repeat.first} yet"
    when = "gets" if running else "will get, once kexport runs,"
    return (
        f"the sink {sink} {when} {repeat.events} events again, from event {repeat.first} on;"
        " what its routes leave out of them it does not get"
    )


def sinks(arguments: argparse.Namespace, root: Root) -> str:
    """List the sinks, or do something about one."""
    directory = Path(root.journal.path)
    if arguments.what == "ls":
        document = report.state(root)
        if arguments.output:
            return json.dumps(document["sinks"], indent=2)
        return _listed(document)
    name = _named(arguments)
    if arguments.what == "retry":
        ask(directory, Retry(sink=name))
        return f"the sink {name} tries again now"
    event = arguments.event or _held_at(directory, name, arguments.what)
    park = arguments.what == "park"
    request = GiveUp(sink=name, event=event, count=arguments.count, park=park, to=arguments.to)
    answer = ask(directory, request, wait_seconds=GIVE_UP_SECONDS)
    done = f"parked in {answer['kept']}" if park else "skipped"
    return plain_lines(f"{done}: event {each['position']}, {each['id']}" for each in answer["events"])


def plain_lines(lines: Any) -> str:
    return "\n".join(map(plain, lines))


def _named(arguments: argparse.Namespace) -> str:
    if not arguments.name:
        raise ConfigError(f"sinks {arguments.what}: name the sink, as `kexport sinks ls` does")
    if arguments.what != "park" and arguments.to:
        raise ConfigError(f"sinks {arguments.what}: --to goes with park only")
    return str(arguments.name)


def _held_at(directory: Path, name: str, what: str) -> str:
    """Refuse to guess which event is meant; raises ConfigError that shows the one it is held at."""
    listed = {each["name"]: each for each in ask(directory, Status())["status"]["sinks"]}
    if name not in listed:
        raise ConfigError(f"no sink named {name!r}{nearest(name, listed)}")
    held = listed[name]["held"]
    if not held:
        raise KexportError(f"sinks.{name}: is held at no event, its state is {listed[name]['state']}")
    raise ConfigError(
        f"sinks.{name}: is held at event {held['position']}, {held['id']}; if that is the one:"
        f" kexport sinks {what} {name} {held['position']}"
    )


def _listed(document: dict[str, Any]) -> str:
    rows = [["SINK", "STATE", "BEHIND", "LAG", "RETRIES", "HELD AT", "EVENT", "ERROR"]]
    for each in document["sinks"]:
        held = each.get("held") or {}
        rows.append([
            each["name"], each.get("state", "-"), f"{each['lag_events']}",
            report.seconds(each.get("lag_seconds")), f"{each.get('retries', '-')}",
            f"{held.get('position', '-')}", held.get("id", "-"), each.get("error", ""),
        ])  # fmt: skip
    told = table(rows)
    return told if document["running"] else f"{report.headline(document)}\n\n{told}"


COMMANDS = {"snapshot": snapshot, "replay": replay, "sinks": sinks}
