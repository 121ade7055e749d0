"""A configuration of the OpenTelemetry Collector, as far as it is about Kubernetes' objects -> config.toml.

Also the receiver's section alone, as its documentation shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kexport.collectorobjects import EVENTS, Entry, entries
from kexport.collectorsinks import add_sink
from kexport.draft import Draft, Table
from kexport.errors import ConfigError
from kexport.foreign import Value, read

_SECTIONS = ("receivers", "processors", "exporters", "connectors", "extensions", "service")
_OBJECTS = frozenset({"k8sobjects", "k8s_objects"})
_ENV = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}")
_FILE = re.compile(r"\$\{file:[^}]+\}")


class _Pipeline(NamedTuple):
    """Which receivers of Kubernetes' objects feed which exporters."""

    receivers: tuple[str, ...]
    exporters: tuple[str, ...]


def expand(text: str) -> str:
    """The Collector's `${env:NAME}` as `${NAME}`; `${file:…}` is the same, and `$$` is a `$`."""
    return "$".join(map(_expanded, text.split("$$")))


def _expanded(text: str) -> str:
    for found in _ENV.finditer(text):
        if found[2]:
            known = f"write ${{env:{found[1]}}}"
            raise ConfigError(f"{found[0]} has a default, which kexport does not know: {known}")
    if "${" in _FILE.sub("", _ENV.sub("", text)):
        raise ConfigError("has a ${…} other than env and file: put the value itself there")
    return _ENV.sub(r"${\1}", text)


def translate(text: str) -> Draft:
    """The same export as config.toml; raises ConfigError with the line of what cannot be read."""
    document = read(text, expand)
    draft = Draft()
    receivers = _receivers(document)
    exporters = _exporters(document)
    pipelines = _pipelines(document, receivers, exporters, draft.top)
    used = {name: receivers[name] for each in pipelines for name in each.receivers}
    _say_api(used.values(), draft)
    watched = {name: entries(receiver, draft) for name, receiver in used.items()}
    _add_routes(pipelines, watched, draft)
    for name in dict.fromkeys(name for each in pipelines for name in each.exporters):
        if exporter := exporters.get(name):
            add_sink(name, exporter, draft)
        else:
            _add_printing(draft.sink(name))
    _say_rest(document, draft.top)
    return draft


# -- receivers ----------------------------------------------------------------------------------------------


def _receivers(document: Value) -> dict[str, Value]:
    """Those about Kubernetes' objects; of a whole configuration, of its section, or of the receiver alone."""
    members = document.table()
    if "objects" in members:
        return {"k8sobjects": document}
    if "receivers" in members:
        document.table(_SECTIONS)
        members = members["receivers"].table()
    found = {name: each for name, each in members.items() if _kind(name) in _OBJECTS | EVENTS}
    if not found:
        raise document.error("has no receiver k8sobjects or k8s_events, so there is nothing to translate")
    if "receivers" not in document.members and len(found) < len(members):
        other = next(each for name, each in members.items() if name not in found)
        raise other.error(f"unknown section; known: {', '.join(_SECTIONS)}, or receivers alone")
    return found


def _kind(component: str) -> str:
    return component.partition("/")[0].strip()


def _say_api(receivers: Iterable[Value], draft: Draft) -> None:
    cluster = draft.table("[cluster]")
    cluster.say("Without a name, the cluster is called by the uid of its namespace kube-system.")
    said: dict[str, str] = {}
    for receiver in receivers:
        if receiver.kind == "empty":
            continue
        for key, setting in (("context", "context"), ("kube_api_qps", "list_requests_per_second")):
            value = receiver.get(key)
            if value is None:
                continue
            if setting in said:
                cluster.note(
                    value, f"{setting} is set already, by {said[setting]}: there is one cluster here"
                )
                continue
            said[setting] = value.place
            cluster.set(setting, value.number() if key == "kube_api_qps" else value.text())
        if value := receiver.get("auth_type"):
            cluster.note(value, _AUTH.get(value.text(), "no twin: name a kubeconfig"))


_AUTH = {
    "serviceAccount": "as here by default: the service account, else a kubeconfig",
    "kubeConfig": "as here by default: where there is no service account, $KUBECONFIG or ~/.kube/config",
    "none": 'set url = "http://…" to an API server without credentials, such as kubectl proxy',
    "tls": "a client certificate stands in a kubeconfig: set kubeconfig",
}


# -- pipelines, exporters, the rest -------------------------------------------------------------------------


def _exporters(document: Value) -> dict[str, Value]:
    section = document.get("exporters") if "receivers" in document.members else None
    if section is not None and not section.table():
        raise section.error("there is none, so nothing is exported; name one")
    return dict(section.table()) if section else {}


def _add_printing(table: Table) -> None:
    table.say("The file names no exporter: this one prints. Choose another, see kexport plugins.")
    table.set("type", "file")
    table.set("path", "-")


def _pipelines(
    document: Value, receivers: Mapping[str, Value], exporters: Mapping[str, Value], top: Table
) -> list[_Pipeline]:
    """Those that begin with one of these receivers; without any pipelines one of everything."""
    section = document.get("service", "pipelines") if "receivers" in document.members else None
    if section is None or not exporters:
        return [_Pipeline(tuple(receivers), tuple(exporters) or ("changes",))]
    found = [_pipeline(each, receivers, exporters, top) for each in section.table().values()]
    found = [each for each in found if each.receivers and each.exporters]
    if not found:
        raise section.error("none leads from a receiver of Kubernetes' objects to an exporter; write one")
    used = {name for each in found for name in (*each.receivers, *each.exporters)}
    for name, value in (*receivers.items(), *exporters.items()):
        if name not in used:
            top.note(value, "is in no pipeline of Kubernetes' objects, and so it is left out")
    return found


def _pipeline(
    pipeline: Value, receivers: Mapping[str, Value], exporters: Mapping[str, Value], top: Table
) -> _Pipeline:
    pipeline.table(("receivers", "processors", "exporters"))
    given = _names(pipeline, "receivers")
    first = tuple(name for name in given if name in receivers)
    if other := ", ".join(name for name in given if name not in receivers):
        top.remark(pipeline, f"what comes from {other} is nothing of kexport's: it stays in the Collector")
    if not first:
        top.note(pipeline, "so all of it stays in the Collector")
        return _Pipeline((), ())
    targets = _names(pipeline, "exporters")
    if other := ", ".join(name for name in targets if name not in exporters):
        top.remark(pipeline, f"{other} is a connector, or is not there: left out")
    if processors := pipeline.get("processors"):
        top.note(processors, _PROCESSORS)
    return _Pipeline(first, tuple(name for name in targets if name in exporters))


_PROCESSORS = (
    "kexport batches by itself; fields are left out by [[transforms]], changes by [[routes]]. For more, send"
    " to the Collector by an otlp sink and keep the pipeline there, with an otlp receiver at its beginning"
)


def _names(pipeline: Value, key: str) -> list[str]:
    value = pipeline.get(key)
    return value.texts() if value else []


def _add_routes(pipelines: list[_Pipeline], watched: Mapping[str, list[Entry]], draft: Draft) -> None:
    """None where every sink gets everything, as it does without routes."""
    flat = [each for group in watched.values() for each in group]
    if len(pipelines) == 1 and not any(each.changes or each.where for each in flat):
        return
    for pipeline in pipelines:
        groups: dict[tuple[tuple[str, ...], str], list[str]] = {}
        for each in (entry for name in pipeline.receivers for entry in watched[name]):
            names = groups.setdefault((each.changes, each.where), [])
            names += [each.resource] if each.resource not in names else []
        for (changes, where), resources in groups.items():
            table = draft.table("[[routes]]")
            table.set("sinks", list(pipeline.exporters))
            table.set("resources", resources)
            if changes:
                table.set("changes", list(changes))
            if where:
                table.set("where", where)


def _say_rest(document: Value, top: Table) -> None:
    stays = "is nothing of kexport's: it stays in the Collector, or is not needed"
    for value in document.unused():
        top.note(value, stays)
