"""A resource that the server does not serve any more: what becomes of the objects that were known."""

from __future__ import annotations

import msgspec

from kexport.change import Resource, Stream, newer
from kexport.diff import PORTION
from kexport.encoder import Encoder, now
from kexport.errors import ApiError, ConnectionLostError, ProtocolError
from kexport.freshness import METADATA_ONLY
from kexport.journal import Journal
from kexport.kube import Client, ListMeta
from kexport.places import Position, Resync
from kexport.trail import Told, Trail

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REASON = "resource-removed"


async def defined(client: Client, resource: Resource) -> bool | None:
    """Whether a CustomResourceDefinition defines it; None when we may not know.

    Raises ApiError, ConnectionLostError or ProtocolError when there is no answer.
    """
    try:
        await client.get(f"{DEFINITIONS}/{resource.full_name}", paced=False)
    except ApiError as error:
        if error.status not in {403, 404}:
            raise
        return False if error.status == 404 else None
    return True


class _List(msgspec.Struct):
    metadata: ListMeta


async def newest(client: Client) -> str:
    """The version at which the definitions are now, and so behind all deletions of one that is gone.

    "" when we may not know.
    """
    try:
        body = await client.get(DEFINITIONS, accept=METADATA_ONLY, paced=False, limit="1")
        return msgspec.json.decode(body, type=_List).metadata.resourceVersion
    except (ApiError, ConnectionLostError, ProtocolError, msgspec.DecodeError):
        return ""


async def retire(
    stream: Stream, journal: Journal, encoder: Encoder, trail: Trail | None = None, *, at: str, watched: bool
) -> None:
    """Tell the deletion of every object that is left, and forget the stream's place.

    The server deletes a resource's objects before the resource, so usually none is left. Until all is told
    the place is marked; after a crash in the middle the rest follows when the resource is missed again.
    `at`: a version at which it was gone; without, the last one that is known is all there is to say.
    `watched`: the deletions were, so that where none is left none was missed.
    """
    key = stream.key
    position = journal.positions[key]
    encoder.enter(position.epoch)
    since = position.resync.since if position.resync else position.version
    until = at if newer(at, since) else since
    known = sorted((await journal.known(key)).items())
    mark = Position(resync=Resync(reason=REASON, since=since), epoch=position.epoch)
    for start in range(0, len(known), PORTION):
        some = known[start : start + PORTION]
        observed = now()
        events = [
            encoder.vanished(k, each, change=stream.gone, version=until, time=observed) for k, each in some
        ]
        objects = {name: None for name, _ in some}
        await journal.room()
        told = await trail.compare(events, objects) if trail else Told(events)
        journal.append(key, told.events if stream.deletions == "emit" else (), objects, mark, told.states)
    closing = []
    if since:
        counts = {"added": 0, "modified": 0, "deleted": len(known), "recovered": 0}
        missed = bool(known) or not watched
        closing = [
            encoder.gap(since, until, reason=REASON, complete=not missed, scanned=not missed, **counts)
        ]
    journal.append(key, closing, {}, Position(epoch=position.epoch))
    await journal.flush()
    await journal.serve(key, None)
