"""The sink: a batch becomes objects, and `write` returns when all of them are stored.

Objects of one batch go up side by side. Some may be stored though one before them failed: `written` ends at
the first event that is not, and what is stored beyond is remembered until the batch is through, so that
repeating the rest stores exactly the objects that failed, under the same names. After a crash that memory is
gone, and events may be stored again in an object of another name, with the same ids and bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import obstore
from obstore.exceptions import AlreadyExistsError
from typing_extensions import override

from kexport import Event, Sink, SinkContext
from kexport_s3 import encode, store
from kexport_s3.config import S3Config
from kexport_s3.failure import STORE_ERRORS, failure, is_stored, opening_failure
from kexport_s3.folder import Folders
from kexport_s3.layout import Planned, plan
from kexport_s3.store import Store

UPLOADS_AT_ONCE = 8
# Readers such as Spark, Athena and Hive pass over names that begin with "_".
PROBE = "_kexport_check"
_PROBE_TEXT = b"kexport proves with this object that it may write here. It can be deleted.\n"


class S3Sink(Sink):
    """Events as objects below `config.url`."""

    def __init__(self, config: S3Config, context: SinkContext) -> None:
        store.check(config, name=context.name)
        encode.check(config.format, name=context.name)
        self._folders = Folders(config.prefix, name=context.name)
        self._config = config
        self._name = context.name
        self._place = f"sinks.{context.name}"
        self._log = context.log
        self._store: Store | None = None
        self._stored: list[Planned] = []
        # One thread at a time: packing takes the processor, and the informers want it too.
        self._packing = asyncio.Lock()

    @override
    async def open(self) -> None:
        """Prove bucket, credentials and permission, by what writing needs and no more: PutObject.

        Looking at the bucket or an object would need permission to read, and a missing one to list; without
        these a 403 proves nothing. So one small object is created, and from then on found to be there.
        """
        try:
            self._store = await asyncio.to_thread(store.connect, self._config, name=self._name)
            await self._create(PROBE, _PROBE_TEXT, content_type="text/plain")
        except STORE_ERRORS as error:
            raise opening_failure(error, place=self._place, url=self._config.url) from error

    @override
    async def write(self, events: Sequence[Event]) -> None:
        planned = await asyncio.to_thread(self._plan, events)
        waiting, failures = deque(planned), dict[int, Exception]()
        async with asyncio.TaskGroup() as group:
            for number in range(min(UPLOADS_AT_ONCE, len(planned))):
                group.create_task(self._upload(waiting, failures), name=f"{self._place} upload {number}")
        if not failures:
            self._stored.clear()
            return
        # Uploads begin in the order of their first events: what was not begun comes behind what failed.
        written = min(failures)
        raise failure(failures[written], place=self._place, url=self._config.url, written=written)

    @override
    async def close(self) -> None:
        self._store = None
        self._stored.clear()

    def _plan(self, events: Sequence[Event]) -> list[Planned]:
        stored = {event.line for each in self._stored for event in each.events}
        return plan(events, folders=self._folders, ending=self._config.format, stored=stored)

    async def _upload(self, waiting: deque[Planned], failures: dict[int, Exception]) -> None:
        """Store one object after another; begins no more once one has failed."""
        while waiting and not failures:
            path, start, events = planned = waiting.popleft()
            async with self._packing:
                body = await asyncio.to_thread(encode.encode, events, self._config.format)
            try:
                new = await self._create(path, body, content_type=encode.CONTENT_TYPES[self._config.format])
            except STORE_ERRORS as error:
                failures[start] = error
            else:
                self._stored.append(planned)
                self._log.debug("object stored", path=path, events=len(events), bytes=len(body), new=new)

    async def _create(self, path: str, body: bytes, *, content_type: str) -> bool:
        """Store it unless there is one of this name, which then has the same content; whether it is new."""
        assert self._store is not None
        attributes = {"Content-Type": content_type}
        if self._config.storage_class:
            attributes["Storage-Class"] = self._config.storage_class
        try:
            await obstore.put_async(
                self._store,
                path,
                body,
                mode="create",
                use_multipart=False,  # one request is whole or nothing; leftovers of parts would cost
                attributes=None if self._config.url.startswith("file:") else attributes,
            )
        except AlreadyExistsError as error:
            if not is_stored(error):
                raise
            return False
        return True
