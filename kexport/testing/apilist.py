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
from kexport.testing.failure import CONTINUE_EXPIRED, LIST_EXPIRED, expired, too_large
from kexport.testing.kinds import Resource
from kexport.testing.settings import Settings
from kexport.testing.store import Entry, Store


@dataclass(frozen=True)
class Page:
    revision: int
    entries: list[Entry]
    proceed: str = ""
    remaining: int | None = None


async def read_page(
    store: Store, resource: Resource, namespace: str, options: Options, settings: Settings
) -> Page:
    prefix = resource.prefix(namespace)
    after, limit = "", options.limit
    if options.proceed:
        at, start = apioptions.decode_continue(options)
        after = prefix + start
        if 0 < at < store.compacted:
            raise expired(CONTINUE_EXPIRED, proceed=apioptions.encode_continue(-1, start))
        at = at if at > 0 else store.revision
    else:
        at = await _chosen_revision(store, resource, options, settings)
        if options.version == "0" and resource.cached:
            limit = 0  # the watch cache answers "any version" in one piece
    entries = _candidates(store, resource, namespace, options, after=after, at=at)
    return _cut(entries, options, prefix=prefix, limit=limit, at=at)


async def fresh(store: Store, resource: Resource, revision: int, settings: Settings) -> None:
    """Wait until the server knows this revision, or answer that it doesn't."""
    if not resource.cached:  # etcd says at once what the watch cache waits for
        if revision > store.revision:
            raise too_large(revision, store.revision, retry_after=0)
        return
    if not await store.reached(revision, wait_seconds=settings.fresh_wait_seconds):
        raise too_large(revision, store.revision)


async def _chosen_revision(store: Store, resource: Resource, options: Options, settings: Settings) -> int:
    wanted = apioptions.revision(options)
    await fresh(store, resource, wanted, settings)
    if not options.exact:
        return store.revision
    if wanted < store.compacted:
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


def _cut(entries: list[Entry], options: Options, *, prefix: str, limit: int, at: int) -> Page:
    """Take one page: it ends at the limit, even if nothing behind it would match."""
    selection = options.selection
    chosen: list[Entry] = []
    for index, entry in enumerate(entries):
        if selection.everything or selection.admits(entry.object):
            chosen.append(entry)
        if limit and len(chosen) >= limit:
            if index == len(entries) - 1:
                break
            proceed = apioptions.encode_continue(at, entry.key.removeprefix(prefix))
            # Only without selectors does the server know how many are left.
            remaining = len(entries) - limit if selection.everything else None
            return Page(at, chosen, proceed, remaining)
    return Page(at, chosen)


def encode(page: Page, resource: Resource, *, metadata_only: bool) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
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
