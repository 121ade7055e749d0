"""The past of one stream: what was there at a version, as far as etcd still has it.

The API server's watch cache forgets within about 75 s and at every restart. etcd keeps each revision until it
is compacted, after five to ten minutes, and a list with `resourceVersionMatch=Exact` reads it. All reads for
one gap share one budget of requests and seconds; the pace of ordinary lists would be far too slow for them.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from kexport.backoff import Backoff
from kexport.change import Known, Metadata, RawObject, Stream
from kexport.errors import ApiError, ConnectionLostError, ProtocolError
from kexport.kube import JSON, Client, Page
from kexport.lines import decode_metadata

AT_ONCE = 8
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 3.0
PATIENCE_SECONDS = 30.0  # the longest wait for what another stream may know: etcd forgets meanwhile
_UNDECODABLE = re.compile("corrupt object|not decodable|from an invalid group/version")
TRIES = 8  # with the pauses between them: longer than an API server needs to start anew


class UnreadableError(Exception):
    """A version that cannot be had: compacted, refused, beyond the budget, or not what was asked for."""


class CompactedError(UnreadableError):
    """etcd has forgotten this version; later ones may still be had."""


class Version(NamedTuple):
    """An object as it once was; not shaped yet."""

    metadata: Metadata
    members: RawObject


class Step(NamedTuple):
    """One object at two versions at which it was not the same."""

    low: int
    before: Known | None
    high: int
    after: Known | None


class _Item(msgspec.Struct, frozen=True, gc=False):
    metadata: Metadata


class _ListMeta(msgspec.Struct, frozen=True):
    resourceVersion: str = ""  # noqa: N815
    continue_: str = msgspec.field(name="continue", default="")
    remainingItemCount: int | None = None  # noqa: N815


class _Names(msgspec.Struct, frozen=True):
    """A list of which only the objects' metadata matters."""

    metadata: _ListMeta
    items: list[_Item] | None = None


_page = msgspec.json.Decoder(Page)
_names = msgspec.json.Decoder(_Names)


class History:
    """Reads versions of a stream's objects; everything raises UnreadableError and nothing else."""

    def __init__(self, stream: Stream, client: Client) -> None:
        self.stream = stream
        self._client = client
        self._most = client.config.recover_max_requests
        self._started = time.monotonic()
        self._deadline = asyncio.get_running_loop().time() + client.config.recover_max_seconds
        self._patience = client.config.recover_max_seconds
        self._compacted = 0  # the newest version that the server is known to have lost
        self.requests = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def exhausted(self) -> bool:
        """Whether the budget is used up, so that nothing more can be read."""
        return self.requests >= self._most or asyncio.get_running_loop().time() >= self._deadline

    def apart_from(self, other: History) -> bool:
        """Whether no object can belong to both; names must differ, since `events` are in two groups."""
        mine, theirs = self.stream, other.stream
        if mine.resource.name != theirs.resource.name:
            return True
        return bool(mine.namespace and theirs.namespace and mine.namespace != theirs.namespace)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait for others within the block: in all no longer than they may take, and at nobody's cost."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(min(self._patience, PATIENCE_SECONDS)):
                yield
        except TimeoutError:
            pass  # what the slow ones know is not needed, only useful
        finally:
            waited = loop.time() - began
            self._deadline += waited
            self._patience = max(0.0, self._patience - waited)

    async def version(self, key: str, at: int, *, selected: bool = False) -> Version | None:
        """The object of this key as it was at version `at`; None: there was none.

        Whether it was in the stream's selection matters only if `selected` says so.
        """
        namespace, _, name = key.rpartition("/")
        path = self.stream.resource.path(namespace or None)
        query = self.stream.selectors if selected else {}
        fields = ",".join(filter(None, (f"metadata.name={name}", query.get("fieldSelector"))))
        body = await self._ask(path, at, query | {"fieldSelector": fields})
        try:
            page = _page.decode(body)
            found = [(decode_metadata(item), item) for item in page.objects()]
        except (msgspec.DecodeError, RecursionError, ProtocolError) as error:
            raise UnreadableError(f"the list of {key} at {at} is not one: {error}") from error
        if page.metadata.resourceVersion != str(at) or len(found) > 1:
            raise UnreadableError("the server does not list one object at one version")
        if not found:
            return None
        metadata, item = found[0]
        if metadata.key != key:
            raise UnreadableError(f"the server answered with {metadata.key} instead of {key}")
        return Version(metadata, item)

    async def state(self, key: str, at: int) -> tuple[Version | None, bool]:
        """The object as it was, and whether it was in the stream's selection."""
        if self.stream.selective:
            if found := await self.version(key, at, selected=True):
                return found, True
            return await self.version(key, at), False
        return await self.version(key, at), True

    async def everything(self, at: int) -> dict[str, Known]:
        """Key, uid and version of all the stream's objects at version `at`."""
        names = await self._listed(at, {})
        found = (item.metadata for item in names.items or ())
        return {each.key: each.known for each in found if self.stream.wants(each.namespace)}

    async def count(self, at: int) -> int | None:
        """How many objects there were at version `at`: a list of one says how many more there are.

        As cheap in a stream of thousands as in one of ten. None: the server doesn't say.
        """
        names = await self._listed(at, {"limit": "1"})
        rest = names.metadata.remainingItemCount
        if rest is None and names.metadata.continue_:
            return None
        return len(names.items or ()) + (rest or 0)

    async def newest(self) -> int:
        """etcd's own version now, as a consistent read of this resource has it."""
        try:
            names = _names.decode(
                await self._client.get(self.stream.path, accept=METADATA, paced=False, limit="1")
            )
            return int(names.metadata.resourceVersion)
        except (ApiError, ConnectionLostError, ProtocolError, ValueError, RecursionError) as error:
            raise UnreadableError(str(error)) from error

    async def _listed(self, at: int, query: dict[str, str]) -> _Names:
        body = await self._ask(self.stream.path, at, self.stream.selectors | query, accept=METADATA)
        try:
            names = _names.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnreadableError(f"the list at {at} is not one: {error}") from error
        if names.metadata.resourceVersion != str(at):
            raise UnreadableError("the server does not list at one version")
        return names

    async def oldest(self, low: int, high: int) -> int:
        """The oldest version from `low` on that etcd still has, where that is up to `high`, or up to now.

        `high` may be lost as well: a watch cache that few changes reach remembers longer than etcd.
        """
        if high < low or await self._has(low):
            return low
        if not await self._has(high):
            high = await self.newest()
        while high - low > 1:
            middle = (low + high) // 2
            if await self._has(middle):
                high = middle
            else:
                low = middle
        return high

    async def _has(self, at: int) -> bool:
        try:
            await self._listed(at, {"limit": "1"})
        except CompactedError:
            return False
        return True

    async def steps(
        self, before: dict[str, Known], begin: int, end: int, *, every: int
    ) -> tuple[dict[str, list[Step]], dict[str, Known]]:
        """The steps of each object as seen at every nth version until `end`, and what was there then.

        Every 1: each single version is listed, and nothing that happened can escape it.
        """
        steps: dict[str, list[Step]] = {}
        versions = [*range(begin + every, end, every), end]
        low = begin
        for first in range(0, len(versions), AT_ONCE):
            wanted = versions[first : first + AT_ONCE]
            found = await asyncio.gather(*map(self.everything, wanted), return_exceptions=True)
            for high, after in zip(wanted, found, strict=True):
                if isinstance(after, BaseException):
                    raise after
                for key in {key for key, _ in before.items() ^ after.items()}:
                    step = Step(low, before.get(key), high, after.get(key))
                    steps.setdefault(key, []).append(step)
                low, before = high, after
        return steps, before

    async def _ask(self, path: str, at: int, query: dict[str, str], *, accept: str = JSON) -> bytes:
        """One list; trouble that may pass is waited out, for as long as the budget allows."""
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        query = query | {"resourceVersion": str(at), "resourceVersionMatch": "Exact"}
        tries = 0
        while True:
            if at <= self._compacted:
                raise CompactedError("etcd was compacted")
            if self.exhausted:
                raise UnreadableError("the budget of requests and seconds is used up")
            self.requests += 1
            tries += 1
            try:
                async with asyncio.timeout_at(self._deadline):
                    return await self._client.get(path, accept=accept, paced=False, **query)
            except (TimeoutError, ProtocolError) as error:
                raise UnreadableError(str(error) or "the seconds are used up") from error
            except ConnectionLostError as error:
                if tries == TRIES:
                    raise UnreadableError(str(error)) from error
                wait = backoff.next()
            except ApiError as error:
                if tries >= self._most_tries(error):
                    if error.expired:
                        self._compacted = max(self._compacted, at)
                        raise CompactedError(str(error)) from error
                    raise UnreadableError(str(error)) from error
                wait = backoff.next(error.retry_after)
            left = self._deadline - asyncio.get_running_loop().time()
            await asyncio.sleep(min(wait, max(0.0, left)))

    def _most_tries(self, error: ApiError) -> int:
        """How often to ask. 504: this replica is behind, the next may know; 410 is most often etcd's word.

        What the server finds and can't decode (of a definition that is gone, of a lost key) stays so.
        """
        if error.status == 429:
            return self._most
        if _UNDECODABLE.search(str(error)):
            return 2
        if error.status in {500, 502, 503, 504}:
            return TRIES
        return 2 if error.expired else 1
