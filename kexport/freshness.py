"""Has the server's history been set back behind a version that we know?

After etcd was restored from a backup, the API server accepts a watch from a version that it has not reached
(again) and stays silent until it has: every change until then would be lost without a sign
(kubernetes/kubernetes#107457). A list that must not be older than that version asks.
"""

from __future__ import annotations

import asyncio
import re
from time import monotonic

import msgspec

from kexport.change import Stream, newer
from kexport.errors import ApiError, ProtocolError
from kexport.kube import Client, ListMeta

METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
PATIENCE_SECONDS = 30.0  # a replica that merely lags has caught up by then
AGAIN_SECONDS = 1.0
PROOFS = 2
_TOO_LARGE = re.compile("too large resource version|ResourceVersionTooLarge", re.IGNORECASE)


class _List(msgspec.Struct):
    metadata: ListMeta


async def set_back_to(client: Client, stream: Stream, version: str) -> str:
    """The server's newest version where that is before `version`: its history was set back. "" else.

    A consistent list reads etcd's own version, so a replica that lags doesn't look like this.
    Raises ApiError, ConnectionLostError or ProtocolError when it can't be asked.
    """
    deadline = monotonic() + PATIENCE_SECONDS
    proofs = 0
    while not await _reached(client, stream, version):
        newest = await _newest(client, stream)
        if newer(version, newest):
            proofs += 1
            if proofs == PROOFS:
                return newest
        else:
            proofs = 0
        if monotonic() > deadline:
            break  # some replica lags for long; it stays silent until it has caught up
        await asyncio.sleep(AGAIN_SECONDS)
    return ""


async def _reached(client: Client, stream: Stream, version: str) -> bool:
    query = {"limit": "1", "resourceVersion": version, "resourceVersionMatch": "NotOlderThan"}
    try:
        await client.get(stream.path, accept=METADATA_ONLY, paced=False, **query)
    except ApiError as error:
        if error.status in {400, 410, 422}:
            return True  # it knows no such question, or the version is in its past: the watch will tell
        if error.status == 504 and _TOO_LARGE.search(str(error)):
            return False
        raise
    return True


async def _newest(client: Client, stream: Stream) -> str:
    body = await client.get(stream.path, accept=METADATA_ONLY, paced=False, limit="1")
    try:
        return msgspec.json.decode(body, type=_List).metadata.resourceVersion
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the list of {stream.path} is not one: {error}") from error
