"""Does the index agree with the cluster? It must; this finds out whether it does, every few hours.

The listing is taken exactly at the version that the index stands at, so nothing that happens meanwhile can be
mistaken for a difference, and the watch goes on beside it.
"""

from __future__ import annotations

from typing import NamedTuple

from kexport.change import Known, Stream
from kexport.freshness import METADATA_ONLY
from kexport.kube import Client
from kexport.lines import decode_metadata


class Index(NamedTuple):
    """The index of one stream as of `version`."""

    known: dict[str, Known]
    version: str


async def differences(client: Client, stream: Stream, index: Index) -> int:
    """How many objects the cluster and the index disagree on; the index is used up.

    Raises ApiError (410: the version is out of the server's history), ConnectionLostError or ProtocolError;
    nothing may be concluded then.
    """
    query = {**stream.selectors, "resourceVersion": index.version, "resourceVersionMatch": "Exact"}
    known, different = index.known, 0
    async for page in client.pages(stream.path, query, accept=METADATA_ONLY):
        for item in page.objects():
            metadata = decode_metadata(item)
            if stream.wants(metadata.namespace) and known.pop(metadata.key, None) != metadata.known:
                different += 1
    return different + len(known)
