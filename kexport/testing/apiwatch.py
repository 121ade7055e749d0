"""WATCH: where a stream begins, what it sends, and the ways in which it ends.

Once a request is let in and its version is a number, every failure is an ERROR line on a stream with status
200.
"""

import asyncio
import random

import msgspec
from aiohttp import web

from kexport.testing import apilist, apioptions
from kexport.testing.apioptions import Options
from kexport.testing.failure import ApiFailure, expired
from kexport.testing.faults import Faults
from kexport.testing.kinds import Resource
from kexport.testing.registry import Registry
from kexport.testing.settings import Settings
from kexport.testing.watchcache import Ending, Watcher

_PRETIMEOUT_SECONDS = 2.0
_SERVER_TIMEOUT_SECONDS = (1800.0, 3600.0)
_HALF_A_LINE = b'{"type":"MODIFIED","object":{"kind":"%b","apiVersion":"%b","metadata":{"name":"cut-o'


async def stream(
    request: web.BaseRequest,
    watcher: Watcher,
    registry: Registry,
    settings: Settings,
    faults: Faults,
    *,
    options: Options,
) -> web.StreamResponse:
    """Serve one watch until its client goes, its time is over, or the server ends it."""
    apioptions.revision(options)  # refused before the stream begins
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
    )
    response.enable_chunked_encoding()
    try:
        await begin(watcher, registry, settings, options=options)
    except ApiFailure as failure:
        await response.prepare(request)
        await response.write(msgspec.json.encode({"type": "ERROR", "object": failure.status()}) + b"\n")
        return response
    try:
        await response.prepare(request)
        await _pump(response, watcher, registry, settings, faults, timeout_seconds=options.timeout_seconds)
        return await _close(request, response, watcher)
    finally:
        cache = registry.caches.get(watcher.resource.name)
        if cache and watcher in cache.watchers:
            cache.watchers.remove(watcher)


def new_watcher(
    resource: Resource, namespace: str, options: Options, settings: Settings, *, metadata_only: bool
) -> Watcher:
    return Watcher(
        resource,
        prefix=resource.prefix(namespace),
        selection=options.selection,
        metadata_only=metadata_only,
        bookmarks=options.bookmarks,
        after=apioptions.revision(options),
        buffer=settings.watcher_buffer,
    )


async def begin(watcher: Watcher, registry: Registry, settings: Settings, *, options: Options) -> None:
    """Give the watcher its beginning and let it follow the cache; nothing may happen between the two."""
    resource, store = watcher.resource, registry.store
    wanted = watcher.after
    initial = options.initial_events
    if initial is None and not wanted:
        initial = True  # what watches without a version have meant since the beginning
    if initial:
        await apilist.fresh(store, resource, wanted, settings)
    cache = registry.caches.get(resource.name)
    if cache is None:
        raise expired(f"{resource.name} is no longer served")
    if initial:
        entries = list(store.scan(resource))
        random.shuffle(entries)  # no order is promised, so none may be relied on
        marked = options.initial_events or settings.watch_list
        watcher.snapshot(entries, end_at=store.revision if marked else None)
        watcher.after = store.revision
    else:
        watcher.after = wanted or store.revision
        watcher.replay(cache.after(watcher.after))
    cache.watchers.append(watcher)


async def _pump(
    response: web.StreamResponse,
    watcher: Watcher,
    registry: Registry,
    settings: Settings,
    faults: Faults,
    *,
    timeout_seconds: float,
) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + (timeout_seconds or random.uniform(*_SERVER_TIMEOUT_SECONDS))
    bookmark_at = _next_bookmark(clock(), deadline, settings)
    while watcher.ending in (None, Ending.DRAINED) and clock() < deadline:
        if lines := watcher.take():
            watcher.blocked = True
            await faults.passed()
            await response.write(lines)
            watcher.blocked = False
            continue
        if watcher.ending:
            break
        if clock() >= bookmark_at:
            watcher.bookmark(registry.store.revision)
            bookmark_at = _next_bookmark(clock(), deadline, settings)
        await watcher.wait(min(bookmark_at, deadline) - clock())
    await faults.passed()


def _next_bookmark(now: float, deadline: float, settings: Settings) -> float:
    """Return when the next bookmark is due: regularly, and once shortly before the stream's time is over."""
    due = min(now + settings.bookmark_seconds, deadline - _PRETIMEOUT_SECONDS)
    return due if due > now else deadline


async def _close(
    request: web.BaseRequest, response: web.StreamResponse, watcher: Watcher
) -> web.StreamResponse:
    if watcher.ending in (Ending.MID_LINE, Ending.MID_LINE_CLEAN):
        resource = watcher.resource
        await response.write(_HALF_A_LINE % (resource.kind.encode(), resource.api_version.encode()))
    if watcher.ending in (Ending.MID_LINE, Ending.ABORT) and request.transport:
        request.transport.close()  # no last chunk: the body is incomplete, and HTTP can tell
        return response
    await response.write_eof()
    return response
