"""A resource that the server does not serve any more: what becomes of the objects that were known."""

from __future__ import annotations

from kexport.change import Resource, Stream
from kexport.diff import PORTION
from kexport.encoder import Encoder, now
from kexport.errors import ApiError, ConnectionLostError
from kexport.journal import Journal
from kexport.kube import Client
from kexport.places import Position, Resync
from kexport.trail import Told, Trail

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REASON = "resource-removed"


async def defined(client: Client, resource: Resource) -> bool | None:
    """Whether a CustomResourceDefinition defines it; None when we may not know."""
    try:
        await client.get(f"{DEFINITIONS}/{resource.full_name}", paced=False)
    except ApiError as error:
        return False if error.status == 404 else None
    except ConnectionLostError:
        return None
    return True


async def retire(stream: Stream, journal: Journal, encoder: Encoder, trail: Trail | None = None) -> None:
    """Tell the deletion of every object that is left, and forget the stream's place.

    The server deletes a resource's objects before the resource, so usually none is left. Until all is told
    the place is marked; after a crash in the middle the rest follows when the resource is missed again.
    """
    key = stream.key
    position = journal.positions[key]
    encoder.enter(position.epoch)
    since = position.resync.since if position.resync else position.version
    known = sorted((await journal.known(key)).items())
    mark = Position(resync=Resync(reason=REASON, since=since), epoch=position.epoch)
    for start in range(0, len(known), PORTION):
        some = known[start : start + PORTION]
        observed = now()
        events = [
            encoder.vanished(k, each, change=stream.gone, version=since, time=observed) for k, each in some
        ]
        objects = {name: None for name, _ in some}
        await journal.room()
        told = await trail.compare(events, objects) if trail else Told(events)
        journal.append(key, told.events if stream.deletions == "emit" else (), objects, mark, told.states)
    closing = []
    if since:
        counts = {"added": 0, "modified": 0, "deleted": len(known), "recovered": 0}
        closing = [encoder.gap(since, since, reason=REASON, complete=not known, scanned=True, **counts)]
    journal.append(key, closing, {}, Position(epoch=position.epoch))
    await journal.flush()
    await journal.serve(key, None)
