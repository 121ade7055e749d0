"""WATCH: where a stream begins, what it sends, and the ways in which it ends.

Once a request is let in and its version is a number, every failure is an ERROR line on a stream with status
200.
"""

import gzip
import random
from dataclasses import dataclass

import msgspec
from aiohttp import web

from kexport.testing import apioptions, apireply
from kexport.testing.apioptions import Options
from kexport.testing.failure import ApiFailure, expired
from kexport.testing.faults import Faults
from kexport.testing.kinds import Resource
from kexport.testing.replica import Replica
from kexport.testing.settings import Settings
from kexport.testing.watchcache import Ending, Watcher

_SERVER_TIMEOUT_SECONDS = (1800.0, 3600.0)
_HALF_A_LINE = b'{"type":"MODIFIED","object":{"kind":"%b","apiVersion":"%b","metadata":{"name":"cut-o'


@dataclass(frozen=True, kw_only=True)
class Watching:
    """What one watch is served with."""

    request: web.BaseRequest
    replica: Replica
    settings: Settings
    faults: Faults
    options: Options

    @property
    def packed(self) -> bool:
        listing = self.settings.watch_compression and self.options.initial_events is True
        return listing and apireply.takes_gzip(self.request)

    async def passed(self) -> None:
        await self.faults.passed(self.request.path_qs)

    async def write(self, response: web.StreamResponse, lines: bytes) -> None:
        # The real server closes the member at each flush: the body is a row of gzip members.
        await response.write(gzip.compress(lines, 1) if self.packed else lines)


async def stream(watching: Watching, watcher: Watcher) -> web.StreamResponse:
    """Serve one watch until its client goes, its time is over, or the server ends it."""
    apioptions.revision(watching.options)  # refused before the stream begins
    watching.replica.check_ready(watcher.resource)
    headers = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
    if watching.packed:
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    try:
        await _begin(watching, watcher)
    except ApiFailure as failure:
        await response.prepare(watching.request)
        line = msgspec.json.encode({"type": "ERROR", "object": failure.status()}) + b"\n"
        await watching.write(response, line)
        return response
    try:
        await response.prepare(watching.request)
        await _pump(response, watching, watcher)
        return await _close(response, watching, watcher)
    finally:
        cache = watching.replica.caches.get(watcher.resource.name)
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


async def _begin(watching: Watching, watcher: Watcher) -> None:
    """Give the watcher its beginning and let it follow the cache; nothing may happen between the two."""
    resource, replica, wanted = watcher.resource, watching.replica, watcher.after
    initial = watching.options.initial_events
    if initial and not watching.options.version:
        wanted = replica.store.revision  # a watch list promises the newest
    if initial is None and not wanted:
        initial = True  # what watches without a version have meant since the beginning
    if initial:
        await replica.fresh(resource, wanted)
    cache = replica.caches.get(resource.name)
    if cache is None:
        raise expired(f"{resource.name} is no longer served")
    if initial:
        watcher.after = replica.at(resource)
        entries = list(replica.store.scan(resource, revision=watcher.after))
        random.shuffle(entries)  # no order is promised, so none may be relied on
        marked = watching.options.initial_events or watching.settings.watch_list
        watcher.snapshot(entries, end_at=watcher.after if marked else None)
    else:
        watcher.after = wanted or replica.at(resource)
        watcher.replay(cache.after(watcher.after))
    cache.watchers.append(watcher)


async def _pump(response: web.StreamResponse, watching: Watching, watcher: Watcher) -> None:
    replica, settings, now = watching.replica, watching.settings, watching.replica.clock.now
    deadline = now() + (watching.options.timeout_seconds or random.uniform(*_SERVER_TIMEOUT_SECONDS))
    bookmark_at = _next_bookmark(now(), deadline, settings)
    while watcher.ending in (None, Ending.DRAINED):
        if bookmark_at <= now() and bookmark_at < deadline:
            watcher.bookmark(replica.revision)
            bookmark_at = _next_bookmark(now(), deadline, settings)
        if lines := watcher.take():
            watcher.blocked = True
            await watching.passed()
            await watching.write(response, lines)
            watcher.blocked = False
        elif watcher.ending or now() >= deadline:
            break
        else:
            await watcher.wait(min(bookmark_at, deadline) - now())
    await watching.passed()


def _next_bookmark(now: float, deadline: float, settings: Settings) -> float:
    """Return when the next bookmark is due: regularly, and once shortly before the stream's time is over."""
    due = min(now + settings.bookmark_seconds, deadline - settings.pretimeout_seconds)
    return due if due > now else deadline


async def _close(response: web.StreamResponse, watching: Watching, watcher: Watcher) -> web.StreamResponse:
    transport = watching.request.transport
    if watcher.ending in (Ending.MID_LINE, Ending.MID_LINE_CLEAN):
        resource = watcher.resource
        half = _HALF_A_LINE % (resource.kind.encode(), resource.api_version.encode())
        await watching.write(response, half)
    if watcher.ending in (Ending.MID_LINE, Ending.ABORT) and transport:
        transport.close()  # no last chunk: the body is incomplete, and HTTP can tell
        return response
    await response.write_eof()
    return response
