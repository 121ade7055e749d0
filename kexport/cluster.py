"""Which cluster answers at the address, and what it serves.

The uid of the namespace kube-system is the cluster's identity: it survives everything but the cluster. An
address may lead to another cluster from one connection to the next (a restored or replaced control plane, a
name that moved), and two clusters' objects must never be compared.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import NamedTuple

import msgspec

from kexport.change import Metadata, Stream
from kexport.discovery import Catalogue, discover
from kexport.errors import ApiError, NewClusterError, ProtocolError
from kexport.kube import Client

FRESH_SECONDS = 1.0


class Cluster(NamedTuple):
    """What had to be asked of the API server before anything can be watched; `uid` "" = it is hidden."""

    uid: str
    catalogue: Catalogue


class _Object(msgspec.Struct):
    metadata: Metadata


async def identify(client: Client, *, before: str = "") -> str:
    """The cluster's uid, "" where we may not see it; raises ApiError, ConnectionLostError, ProtocolError.

    `before`: it has been seen. Then a server without kube-system is one that has only just begun with an
    empty etcd: what it does not have was never deleted, and soon it says who it is.
    """
    try:
        # Kept connections may lead where new ones do not lead any more.
        namespace = await client.get_anew("/api/v1/namespaces/kube-system")
        return msgspec.json.decode(namespace, type=_Object).metadata.uid
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the namespace kube-system is not an object: {error}") from error
    except ApiError as error:
        if error.status == 404 and before:
            raise ProtocolError(f"the API server {client.address} has no kube-system, and had one") from error
        if error.status not in {403, 404}:
            raise
        return ""  # then cluster.name is needed, and another cluster can't be told apart


async def survey(client: Client, *, before: str = "") -> Cluster:
    """The cluster's identity and what it serves; raises ApiError, ConnectionLostError, ProtocolError.

    `before`: which cluster it was, where that is known.
    """
    return Cluster(await identify(client, before=before), await discover(client))


async def selector_problem(client: Client, stream: Stream) -> str:
    """What the server has against these selectors, "" for nothing: it alone knows a resource's fields.

    Raises ApiError or ConnectionLostError; that we may not ask is no answer, and found out elsewhere.
    """
    try:
        await client.get(
            stream.path,
            labelSelector=stream.label_selector,
            fieldSelector=stream.field_selector,
            limit="1",
        )
    except ApiError as error:
        if error.status == 400:
            return str(error)
        if error.status not in {403, 404}:
            raise
    return ""


class Identity:
    """Sees to it that the address still leads to the cluster `uid`; one question serves all streams."""

    def __init__(self, client: Client, uid: str) -> None:
        self._client = client
        self.uid = uid
        self._asking = asyncio.Lock()
        self._seen = float("-inf")

    async def check(self) -> None:
        """Raises NewClusterError, or what `identify` raises; an answer counts for a second."""
        if not self.uid:
            return
        async with self._asking:
            if monotonic() - self._seen < FRESH_SECONDS:
                return
            self.compare(await identify(self._client, before=self.uid))
            self._seen = monotonic()

    def compare(self, uid: str) -> None:
        """Raises NewClusterError for another uid; a hidden one says nothing."""
        if uid and self.uid and uid != self.uid:
            raise NewClusterError(
                f"the API server {self._client.address} is another cluster now (kube-system namespace {uid},"
                f" before {self.uid}); name another journal.path for this one, or set"
                ' cluster.on_new_cluster = "restart" to begin anew',
                uid=uid,
            )
