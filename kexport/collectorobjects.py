"""What the Collector's receivers watch -> [[resources]], and what of it the sinks are to get."""

from __future__ import annotations

from typing import NamedTuple

from kexport.draft import Draft, Table
from kexport.eventrules import matches, quoted
from kexport.foreign import Value

EVENTS = frozenset({"k8s_events"})
_API = ("auth_type", "context", "kube_api_qps", "kube_api_burst", "storage", "k8s_leader_elector")
_OBJECTS_KEYS = (*_API, "objects", "error_mode", "include_initial_state", "persist_resource_version")
_EVENTS_KEYS = (*_API, "namespaces", "dedup_interval")
_OBJECT_KEYS = (
    "name", "group", "mode", "label_selector", "field_selector", "interval", "resource_version",
    "namespaces", "exclude_watch_type", "exclude_namespaces", "persist_resource_version",
)  # fmt: skip
_ALWAYS_STORED = "the position is always stored: in the journal, together with the events"
_WHY = {
    "storage": _ALWAYS_STORED,
    "persist_resource_version": _ALWAYS_STORED,
    "k8s_leader_elector": "not built: run one kexport with a journal on a volume",
    "error_mode": "what is not served is waited for; what may not be read makes /readyz fail",
    "kube_api_burst": "not needed: watches do not count, and lists are paced",
    "resource_version": "the first start begins with the newest state, every later one where it stopped",
    "interval": "nothing is polled: the state comes once, and then every change",
    "dedup_interval": 'each repeat is a change; a route with changes = ["added"] tells each Event once',
}
_CHANGES = {"ADDED": "added", "MODIFIED": "modified", "DELETED": "deleted"}


class Entry(NamedTuple):
    """A [[resources]] entry, and what of its changes the sinks are to get."""

    resource: str
    changes: tuple[str, ...]
    where: str


def entries(receiver: Value, draft: Draft) -> list[Entry]:
    """Adds the [[resources]] of one receiver."""
    if receiver.name.partition("/")[0] in EVENTS:
        return [_events(receiver, draft)]
    receiver.table(_OBJECTS_KEYS)
    objects = receiver.get("objects")
    if objects is None or not objects.list():
        raise receiver.error("objects: there is none, so nothing is collected; name one")
    initial = receiver.get("include_initial_state")
    emit = initial is not None and initial.flag()
    found = [_object(each, emit, draft.table("[[resources]]")) for each in objects.list()]
    _say_left(receiver, draft.top)
    return found


def _events(receiver: Value, draft: Draft) -> Entry:
    table = draft.table("[[resources]]")
    table.set("resource", "events")
    if receiver.kind != "empty":
        receiver.table(_EVENTS_KEYS)
        if names := receiver.get("namespaces"):
            table.set("namespaces", names.texts())
        _say_left(receiver, table)
    else:
        receiver.use()
    table.set("initial", "silent")
    table.set("deletions", "skip")
    return Entry("events", (), "")


def _object(entry: Value, emit: bool, table: Table) -> Entry:
    entry.table(_OBJECT_KEYS)
    name = entry.get("name")
    if name is None or not name.text():
        raise entry.error("needs a name")
    group = entry.get("group")
    resource = f"{name.text()}.{group.text()}" if group and group.text() else name.text()
    watched = _is_watched(entry, table)
    table.set("resource", resource)
    if (names := entry.get("namespaces")) and names.list():
        table.set("namespaces", names.texts())
    for key in ("label_selector", "field_selector"):
        if value := entry.get(key):
            table.set(key, value.text())
    if watched and not emit:
        table.set("initial", "silent")
    excluded = _excluded(entry)
    if never := ", ".join(sorted(excluded & {"BOOKMARK", "ERROR"})):
        table.remark(entry.members["exclude_watch_type"], f"{never} never become events")
    if "DELETED" in excluded:
        table.set("deletions", "skip")
    where = _not_in(entry, table)
    _say_left(entry, table)
    changes: tuple[str, ...] = ()
    if excluded & {"ADDED", "MODIFIED"}:
        changes = (*(each for kind, each in _CHANGES.items() if kind not in excluded), "left")
    return Entry(resource, changes, where)


def _is_watched(entry: Value, table: Table) -> bool:
    mode = entry.get("mode")
    wanted = mode.text() if mode else "pull"
    if wanted not in {"pull", "watch"}:
        raise (mode or entry).error(f"unknown mode {wanted!r}; one of: pull, watch")
    if wanted == "watch":
        return True
    what = "pull tells the whole state again and again; here it comes once, and then each change"
    table.remark(mode or entry, what)
    return False


def _excluded(entry: Value) -> set[str]:
    value = entry.get("exclude_watch_type")
    found = set(value.texts()) if value else set()
    if value and (unknown := found - {*_CHANGES, "BOOKMARK", "ERROR", ""}):
        raise value.error(
            f"unknown watch type {unknown.pop()!r}; known: {', '.join(_CHANGES)}, BOOKMARK, ERROR"
        )
    return found


def _not_in(entry: Value, table: Table) -> str:
    """The namespaces that are left out, as CEL: [[resources]] only names those that are wanted."""
    terms: list[str] = []
    value = entry.get("exclude_namespaces")
    for each in value.list() if value else ():
        each.table(("regexp", "strict"))
        if found := each.get("strict"):
            terms.append(f"object.metadata.namespace == {quoted(found.text())}")
        if found := each.get("regexp"):
            terms.append(matches("metadata.namespace", found.text()))
    if value and terms:
        table.remark(value, "left out by the where of its route; the API server still sends them")
    return " && ".join(f"!(has(object.metadata.namespace) && {term})" for term in terms)


def _say_left(value: Value, table: Table) -> None:
    for each in value.unused():
        table.note(each, _WHY.get(each.name, "has no twin here"))
