"""The configuration of kubernetes-event-exporter -> config.toml."""

from __future__ import annotations

import re

from kexport.draft import Draft, Table
from kexport.errors import ConfigError
from kexport.eventreceivers import add_sink
from kexport.eventrules import Route, routes
from kexport.foreign import Value, read

_KEYS = (
    "logLevel", "logFormat", "throttlePeriod", "maxEventAgeSeconds", "clusterName", "namespace",
    "leaderElection", "route", "receivers", "kubeQPS", "kubeBurst", "metricsNamePrefix", "omitLookup",
    "cacheSize",
)  # fmt: skip
_LEVELS = {"trace": "debug", "fatal": "error", "panic": "error"}
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)
_AGE = (
    "an age tells nothing here: kexport goes on where it stopped, however old the Events are by then, and"
    ' initial = "silent" leaves out those that are there before its first start'
)
_LOOKUPS = "is about requests for the objects that Events are about; kexport makes none"
_WHY = {
    "throttlePeriod": _AGE,
    "maxEventAgeSeconds": _AGE,
    "kubeQPS": _LOOKUPS,
    "kubeBurst": _LOOKUPS,
    "cacheSize": _LOOKUPS,
    "omitLookup": "kexport never looks up the object that an Event is about: data.object.involvedObject has"
    " its name and uid, not its labels, annotations and owners",
    "metricsNamePrefix": "metrics here begin with kexport_, see docs/metrics.md",
    "leaderElection": "not built: run one kexport with a journal on a volume; it goes on where it stopped, so"
    " nothing is lost while another is started",
}


def expand(text: str) -> str:
    """`$NAME`, which kubernetes-event-exporter takes from the environment, as `${NAME}`."""
    fresh = _VARIABLE.sub(lambda found: f"${{{found[1] or found[2]}}}", text)
    if "${" in _VARIABLE.sub("", fresh):
        raise ConfigError("has a ${…} that names no variable: mend it")
    return fresh


def translate(text: str) -> Draft:
    """The same export as config.toml; raises ConfigError with the line of what cannot be read."""
    document = read(text, expand)
    document.table(_KEYS)
    draft = Draft()
    _say_logs(document, draft.top)
    if name := document.get("clusterName"):
        draft.table("[cluster]").set("name", name.text())
    _add_events(document, draft.table("[[resources]]"))
    for key, why in _WHY.items():
        if value := document.get(key):
            draft.top.note(value, why)
    receivers = _receivers(document)
    _add_routes(document, receivers, draft)
    for name_of, receiver in receivers.items():
        add_sink(name_of, receiver, draft)
    return draft


def _say_logs(document: Value, top: Table) -> None:
    if level := document.get("logLevel"):
        wanted = level.text()
        top.note(level, f"on the command line: kexport run --log-level {_LEVELS.get(wanted, wanted)}")
    if form := document.get("logFormat"):
        style = "json" if form.text() == "json" else "text"
        top.note(form, f"on the command line: kexport run --log-format {style}")


def _add_events(document: Value, table: Table) -> None:
    table.say(
        "kubernetes-event-exporter tells each Event once, when it is new: silent at the first start, and no"
        " deletions, which are only Events that expire."
    )
    table.set("resource", "events")
    if (namespace := document.get("namespace")) and (name := namespace.text()):
        table.set("namespaces", [name])
    table.set("initial", "silent")
    table.set("deletions", "skip")


def _receivers(document: Value) -> dict[str, Value]:
    """The receivers by name."""
    given = document.get("receivers")
    if given is None or not given.list():
        raise document.error("receivers: there is none, so there is nothing to translate")
    found: dict[str, Value] = {}
    for receiver in given.list():
        name = receiver.get("name")
        if name is None or not name.text():
            raise receiver.error("needs a name")
        if name.text() in found:
            raise name.error(f"a second receiver is called {name.text()!r}: give each a name of its own")
        found[name.text()] = receiver
    return found


def _add_routes(document: Value, receivers: dict[str, Value], draft: Draft) -> None:
    tree = document.get("route")
    if tree is None:
        raise document.error("route: there is none, so no receiver gets anything; write one")
    notes = Table()
    found = [_known(route, receivers, notes) for route in routes(tree, notes)]
    found = [route for route in found if route.receivers]
    if not found:
        raise tree.error("no match rule that can match names a receiver, so nothing is exported; name one")
    for value in tree.unused():
        notes.note(value, "says nothing that could be translated")
    draft.top.notes += notes.notes
    for route in found:
        _add_route(route, draft.table("[[routes]]"))
    reached = {name for route in found for name in route.receivers}
    for name, receiver in receivers.items():
        if name not in reached:
            draft.top.notes.append(
                f"line {receiver.line}, {receiver.place}: no route names {name!r}: it gets nothing, as before"
            )


def _known(route: Route, receivers: dict[str, Value], notes: Table) -> Route:
    for name in route.receivers:
        if name not in receivers:
            notes.say(f"A match rule names the receiver {name!r}, which is not there; it is left out.")
    return route._replace(receivers=tuple(name for name in route.receivers if name in receivers))


def _add_route(route: Route, table: Table) -> None:
    if route.counts:
        table.say(
            "It asks how often an Event happened. Events that repeat are modified, so these are taken, too:"
            " kubernetes-event-exporter sees new Events only, which rarely have a count above 1."
        )
    table.set("sinks", list(route.receivers))
    table.set("resources", ["events"])
    if route.namespaces:
        table.set("namespaces", list(route.namespaces))
    table.set("changes", ["added", "modified"] if route.counts else ["added"])
    if route.where:
        table.set("where", route.where)
