"""Who changed an object, and when: `metadata.managedFields`, cut down to that.

The API server notes for each field manager which fields it set last, which is half of many objects. Who and
when fits in a few bytes. They travel behind the object's own members, as one member more that no sink ever
sees: `attach` puts it there, `detach` takes it off.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kexport.change import RawObject

_MEMBER = b',"kexport.io/managers":'


class Manager(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of managedFields: `time` is RFC 3339, to the second; "" in entries of old servers."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""


class _Entry(msgspec.Struct, frozen=True, gc=False):
    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    managedFields: list[_Entry] | None = None  # noqa: N815  (Kubernetes' own spelling)


class Managed(NamedTuple):
    """An object's JSON as sinks get it, and its managers."""

    object: bytes
    managers: tuple[Manager, ...]


_metadata = msgspec.json.Decoder(_Metadata)
_managers = msgspec.json.Decoder(tuple[Manager, ...])


def attach(shaped: bytes, members: RawObject) -> bytes:
    """The shaped object with the managers that `members`, the object as it came, has."""
    try:
        entries = _metadata.decode(members["metadata"]).managedFields or ()
    except (KeyError, msgspec.ValidationError):
        entries = ()
    managers = [(each.manager, each.operation, each.subresource, each.time) for each in entries]
    return b"%b%b%b}" % (shaped[:-1], _MEMBER, msgspec.json.encode(managers))


def detach(attached: bytes) -> Managed:
    """The two parts of what `attach` made; what has no managers is all object."""
    end = attached.rfind(_MEMBER)  # quotes within strings are escaped, so only the member itself looks so
    if end < 0:
        return Managed(attached, ())
    return Managed(attached[:end] + b"}", _managers.decode(attached[end + len(_MEMBER) : -1]))


def latest(managers: tuple[Manager, ...], before: tuple[Manager, ...] = ()) -> Manager:
    """Who made the newest change: the entry that was not there `before`, of several the youngest.

    Times are whole seconds, so without `before` two managers of one second can't be told apart.
    """
    known = set(before)
    new = [each for each in managers if each not in known]
    return max(new or managers, key=lambda each: each.time, default=Manager())
