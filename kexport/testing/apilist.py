"""LIST: which revision it reads, and one page of it as JSON.

The table in "1.2 LIST semantics" of the API concepts is the whole of it: unset is the newest, "0" is
anything the cache has, NotOlderThan waits, Exact and continue tokens read the past as long as etcd has not
compacted it.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from kexport.testing import apioptions
from kexport.testing.apioptions import Options
from kexport.testing.failure import CONTINUE_EXPIRED, LIST_EXPIRED, expired
from kexport.testing.kinds import Resource
from kexport.testing.replica import Replica
from kexport.testing.settings import Settings
from kexport.testing.store import Entry, Store


@dataclass(frozen=True)
class Page:
    revision: int
    entries: list[Entry]
    proceed: str = ""
    remaining: int | None = None


async def read_page(
    replica: Replica, resource: Resource, namespace: str, options: Options, settings: Settings
) -> Page:
    store, prefix = replica.store, resource.prefix(namespace)
    after, limit = "", options.limit
    if not (limit and options.selection.everything):  # such a list the real server hands on to etcd
        replica.check_ready(resource)
    if options.proceed:
        at, start = apioptions.decode_continue(options)
        after = prefix + start
        if 0 < at < store.compacted:
            raise expired(CONTINUE_EXPIRED, proceed=apioptions.encode_continue(-1, start))
        await replica.fresh(resource, max(at, 0))
        at = at if at > 0 else await _newest(replica, resource)
    else:
        at = await _chosen_revision(replica, resource, options)
        if options.version == "0" and resource.cached:
            limit = 0  # the watch cache answers "any version" in one piece
    entries = _candidates(store, resource, namespace, options, after=after, at=at)
    return _cut(entries, options, prefix=prefix, limit=limit, at=at, scan=settings.scan_items)


async def _newest(replica: Replica, resource: Resource) -> int:
    """Return where a consistent read reads: in the caches once they know what etcd knows, else in etcd."""
    newest = replica.store.revision
    if resource.cached and not replica.initializing and await replica.reached(newest):
        return replica.revision
    return replica.store.revision


async def _chosen_revision(replica: Replica, resource: Resource, options: Options) -> int:
    wanted = apioptions.revision(options)
    if not options.version:
        return await _newest(replica, resource)
    await replica.fresh(resource, wanted)
    if not options.exact:
        return replica.at(resource)
    if wanted < replica.store.compacted:
        raise expired(LIST_EXPIRED)
    return wanted


def _candidates(
    store: Store, resource: Resource, namespace: str, options: Options, *, after: str, at: int
) -> list[Entry]:
    name = options.selection.exactly("metadata.name")
    if name and (namespace or not resource.namespaced) and not after:
        found = store.read(resource, resource.key(namespace, name), at)
        return [found] if found else []
    return list(store.scan(resource, prefix=resource.prefix(namespace), after=after, revision=at))


def _cut(
    entries: list[Entry], options: Options, *, prefix: str, limit: int, at: int, scan: int | None
) -> Page:
    """Take one page: it ends at the limit, even if nothing behind it would match."""
    selection = options.selection
    chosen: list[Entry] = []
    for index, entry in enumerate(entries):
        if selection.everything or selection.admits(entry.object):
            chosen.append(entry)
        if limit and (len(chosen) >= limit or index + 1 == scan):
            if index == len(entries) - 1:
                break
            proceed = apioptions.encode_continue(at, entry.key.removeprefix(prefix))
            # Only without selectors does the server know how many are left.
            remaining = len(entries) - len(chosen) if selection.everything else None
            return Page(at, chosen, proceed, remaining)
    return Page(at, chosen)


def encode(page: Page, resource: Resource, *, metadata_only: bool) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)} if resource.versioned else {}
    if page.proceed or (resource.custom and not metadata_only):
        metadata["continue"] = page.proceed
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    kind, api_version = resource.listing, resource.api_version
    if metadata_only:
        kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
    items = b",".join(entry.item(resource, metadata_only=metadata_only) for entry in page.entries)
    document = {
        "kind": kind,
        "apiVersion": api_version,
        "metadata": metadata,
        "items": msgspec.Raw(b"[" + items + b"]"),
    }
    if resource.custom and not metadata_only:
        return msgspec.json.encode(document, order="sorted") + b"\n"
    return msgspec.json.encode(document) + b"\n"
