"""Events to test a sink with: real CloudEvents as the engine makes them, from no cluster."""

from __future__ import annotations

import msgspec

from kexport.event import OBJECT, Attributes, Event, splice


def make_event(number: int = 1, *, data: object = None, position: int | None = None, **changes: str) -> Event:
    """The `number`-th event of a made-up stream of ConfigMaps; `changes` replace attributes.

    Ten objects take turns, so that ten consecutive numbers have ten different keys, and a number always
    gives the same bytes.
    """
    name = f"config-{number % 10}"
    uid = f"00000000-0000-4000-8000-{number % 10:012d}"
    attributes = Attributes(
        specversion="1.0",
        id=f"{uid}/{number}",
        source="/clusters/test/apis/core/configmaps",
        type=OBJECT + "modified",
        subject=f"shop/{name}",
        time="2026-01-01T00:00:00.000000Z",
        datacontenttype="application/json",
        partitionkey=uid,
        sequence=f"{number:020d}",
        origin="watch",
        cluster="test",
        apiversion="v1",
        kind="ConfigMap",
        resource="configmaps",
        objnamespace="shop",
        objname=name,
        resourceversion=str(number),
    )
    body = data or {
        "object": {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": str(number)},
            "data": {"number": str(number)},
        }
    }
    return splice(
        msgspec.structs.replace(attributes, **changes),
        msgspec.json.encode(body),
        position=number if position is None else position,
    )
