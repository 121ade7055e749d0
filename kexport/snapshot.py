"""A complete, consistent listing, kept aside until it is whole, and how it differs from the index.

Nothing is concluded from a listing that broke off: `take` fills the whole snapshot or raises. Objects are
shaped before they are staged, since the staging area may be on disk. What the index already knows in the same
version is not staged at all, so a comparison that finds nothing costs neither memory nor disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from kexport.change import Known, Metadata, RawObject, Stream, newer
from kexport.errors import ApiError, ConnectionLostError, ProtocolError
from kexport.kube import Client
from kexport.lines import decode_bookmark, decode_line, decode_metadata
from kexport.shape import Shaper
from kexport.staging import Staging
from kexport.telemetry import get_log

UNSYNCED_SECONDS = 60.0  # some aggregated servers never end the initial events (kcp-dev/kcp#3871)
_log = get_log("snapshot")


class Staged(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A listed object that differs from the index: its shaped JSON, and what the index knew."""

    metadata: Metadata
    object: bytes
    before: Known | None


class Snapshot:
    """What exists at `version`, as differences from `known`; a context manager, for its staging file."""

    def __init__(
        self,
        stream: Stream,
        shaper: Shaper,
        known: dict[str, Known],
        *,
        directory: Path | None = None,
        again: bool = False,
    ) -> None:
        self.stream = stream
        self._shaper = shaper
        self._known = known
        self.again = again
        """Objects that the index knows just so are staged, too: they are to be told once more."""
        self.directory = directory
        self._staging = Staging(Staged, directory=directory)
        self.restart()

    def restart(self) -> None:
        """Forget what was staged: the listing begins anew."""
        self.version = ""
        self.objects = 0
        self.older = False
        """Some object is in an older version than the index has it."""
        self.missing = dict(self._known)
        """Once the listing is whole: what the index knows and the listing does not have."""
        self._staging.clear()
        self._told: Mapping[str, Known | None] = {}
        self._late: dict[str, Staged | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._staging.close()

    def add(self, members: RawObject) -> None:
        """Stage one listed object, unless the index has just this version of it."""
        metadata = decode_metadata(members)
        if not self.stream.wants(metadata.namespace):
            return
        self.objects += 1
        if metadata.key in self._late:
            self.replace(members)
            return
        before = self.missing.pop(metadata.key, None)
        if before == metadata.known and not self.again:
            return
        if before and before.uid == metadata.uid and newer(before.version, metadata.resourceVersion):
            self.older = True
        staged = Staged(metadata, self._shaper.shape(members), before)
        self._staging.append(staged, len(staged.object))

    def replace(self, members: RawObject) -> None:
        """An object changed while it was being listed: only its newest state counts."""
        metadata = decode_metadata(members)
        if self.stream.wants(metadata.namespace):
            self.missing.pop(metadata.key, None)
            before = self._known.get(metadata.key)
            self._late[metadata.key] = Staged(metadata, self._shaper.shape(members), before)

    def remove(self, members: RawObject) -> None:
        """An object was deleted while it was being listed."""
        metadata = decode_metadata(members)
        if not self.stream.wants(metadata.namespace):
            return
        key = metadata.key
        self.objects -= 1
        self._late[key] = None
        if key in self._known:
            self.missing[key] = self._known[key]

    def rebase(self, told: Mapping[str, Known | None]) -> None:
        """From now on, what differs from the index as it stands once these changes are told."""
        if not told:
            return
        listed = {
            each.metadata.key for some in self.differences() for each in some if each.metadata.key in told
        }
        for key, known in told.items():
            self.missing.pop(key, None)
            if known and key not in listed:
                self.missing[key] = known
        self._told = told

    def differences(self) -> Iterator[list[Staged]]:
        """The staged objects, about a megabyte at a time, in the order in which they were listed."""
        for staged in self._staging.frames():
            yield self._rebased(each for each in staged if each.metadata.key not in self._late)
        yield self._rebased(each for each in self._late.values() if each)

    def _rebased(self, staged: Iterable[Staged]) -> list[Staged]:
        told = self._told
        if not told:
            return list(staged)
        now = (
            msgspec.structs.replace(each, before=told.get(each.metadata.key, each.before)) for each in staged
        )
        return [each for each in now if each.before != each.metadata.known]


async def take(client: Client, snapshot: Snapshot, *, at: str = "") -> None:
    """Fill it with the objects exactly at version `at`, or with the newest consistent state.

    Raises ApiError (410: `at` is out of the server's history), ConnectionLostError or ProtocolError; nothing
    may be concluded then.
    """
    stream = snapshot.stream
    if not at and client.watch_list:
        try:
            await _by_watch(client, snapshot)
        except ApiError as error:
            if error.status not in {400, 422}:
                raise
            client.watch_list = False
            _log.info("the server has no WatchList; listing in pages instead", server=client.address)
        except _UnfinishedError as error:
            _log.warning(
                "the initial events did not end; listing in pages instead", stream=stream.key, why=error
            )
        else:
            return
        snapshot.restart()
    try:
        await _by_list(client, snapshot, at=at)
    except ApiError as error:
        if not (error.expired and snapshot.version):
            raise
        # The continue token outlived the server's memory: ask for the list in one piece (as client-go does).
        _log.warning("the list took too long for its pages; listing again without", stream=stream.key)
        snapshot.restart()
        await _by_list(client, snapshot, at=at, paged=False)


class _UnfinishedError(Exception):
    """A WatchList that ended, or fell silent, before its initial events were complete."""


async def _by_watch(client: Client, snapshot: Snapshot) -> None:
    """WatchList (KEP-3157): ADDED lines in any order, then a bookmark that carries the version."""
    query = {
        **snapshot.stream.selectors,
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    stage = {"ADDED": snapshot.add, "MODIFIED": snapshot.replace, "DELETED": snapshot.remove}
    try:
        async with client.watch(snapshot.stream.path, query, inactivity_seconds=UNSYNCED_SECONDS) as batches:
            async for lines in batches:
                for item in map(decode_line, lines):
                    if item.type != "BOOKMARK":
                        stage[item.type](item.object)
                        continue
                    version, ends = decode_bookmark(item.object)
                    if ends:
                        snapshot.version = version
                        return
    except ConnectionLostError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise _UnfinishedError("nothing came for a minute") from error
        raise
    raise _UnfinishedError("the server closed the stream")


async def _by_list(client: Client, snapshot: Snapshot, *, at: str, paged: bool = True) -> None:
    query = dict(snapshot.stream.selectors)
    if at:
        query |= {"resourceVersion": at, "resourceVersionMatch": "Exact"}
    async for page in client.pages(snapshot.stream.path, query, paged=paged):
        version = page.metadata.resourceVersion
        if version in {"", "0"} or snapshot.version not in {"", version}:
            raise ProtocolError(
                f"the list of {snapshot.stream.path} has no version that one could go on from"
            )
        snapshot.version = version
        for item in page.objects():
            snapshot.add(item)
