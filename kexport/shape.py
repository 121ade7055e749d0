"""What leaves an object before it reaches the disk: managedFields, Secret values, configured fields.

Bytes first: only the members on the way to a removed field are taken apart, one level at a time; their
siblings stay the bytes they were.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

import msgspec

from kexport.change import RawObject
from kexport.errors import ConfigError
from kexport.lines import MAX_DEPTH, flatten
from kexport.managers import attach

Path = tuple[str, ...]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SEGMENT = re.compile(r"""\.?([A-Za-z0-9_$-]+)|\[\s*(?:'([^']*)'|"([^"]*)")\s*\]""")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_strings = msgspec.json.Decoder(dict[str, str])
_encoder = msgspec.json.Encoder()


def parse_path(text: str) -> Path:
    """`metadata.annotations['a.b/c']` -> its member names; raises ConfigError that shows the mistake."""
    path: list[str] = []
    at = 0
    while at < len(text):
        found = _SEGMENT.match(text, at)
        if not found or (at == 0 and text[0] == "."):
            raise ConfigError(f"field path {text!r} is wrong from {text[at:]!r} on; write a.b['c.d/e'].f")
        path.append(next(group for group in found.groups() if group is not None))
        at = found.end()
    if not path:
        raise ConfigError("a field path is empty; write metadata.labels, for example")
    return tuple(path)


class Shaper:
    """Turns an object of one resource into the bytes that may be stored.

    `resource` is its full name (`secrets`, `deployments.apps`), `key` the redaction key, `drop` the paths
    to leave out. `metadata.managedFields` always goes: it is half of many objects and no part of their state.
    With `managers` who and when is attached to what is left (`managers.attach`).
    """

    def __init__(
        self, resource: str, key: bytes, drop: Sequence[Path] = (), *, managers: bool = False
    ) -> None:
        self._managers = managers
        self._drop = (("metadata", "managedFields"), *drop)
        self._secret = resource == "secrets"
        self._key = key

    def shape(self, members: RawObject) -> bytes:
        """The object's JSON without what must not be kept; raises msgspec.DecodeError if it isn't JSON."""
        try:
            kept = self._cut(dict(members))
        except RecursionError:  # so deep that it depends on who calls
            kept = self._cut(_members.decode(flatten(_encoder.encode(members), MAX_DEPTH)))
        shaped = flatten(_encoder.encode(kept), MAX_DEPTH)
        # A server that indents would break an event, and with it a chunk, into lines.
        shaped = msgspec.json.format(shaped, indent=-1) if b"\n" in shaped else shaped
        return attach(shaped, members) if self._managers else shaped

    @property
    def fingerprint(self) -> str:
        """Tells whether another shaper would make the same of an object; says nothing about the key."""
        how = repr((self._drop, self._secret)).encode()
        return hmac.new(self._key, how, hashlib.sha256).hexdigest()

    def _cut(self, members: RawObject) -> RawObject:
        if self._secret:
            self._redact(members)
        for path in self._drop:
            _remove(members, path)
        return members

    def _redact(self, members: RawObject) -> RawObject:
        for name in ("data", "stringData"):
            if name in members:
                members[name] = self._hash_values(members[name], encoded=name == "data")
        metadata = _open(members.get("metadata"))
        annotations = _open(metadata.get("annotations")) if metadata else None
        if metadata and annotations and LAST_APPLIED in annotations:
            # kubectl apply keeps a copy of the whole manifest here, values included.
            annotations[LAST_APPLIED] = _raw(self._hash(bytes(annotations[LAST_APPLIED])))
            metadata["annotations"] = _raw(annotations)
            members["metadata"] = _raw(metadata)
        return members

    def _hash_values(self, raw: msgspec.Raw, *, encoded: bool) -> msgspec.Raw:
        try:
            values = _strings.decode(raw)
        except msgspec.ValidationError:
            return raw if bytes(raw) == b"null" else _raw(self._hash(bytes(raw)))
        return _raw({name: self._hash(_plain(text, encoded=encoded)) for name, text in values.items()})

    def _hash(self, value: bytes) -> str:
        return "hmac-sha256:" + hmac.new(self._key, value, hashlib.sha256).hexdigest()


def _plain(text: str, *, encoded: bool) -> bytes:
    """The value itself, so that it gives one hash whether it stood in data or in stringData."""
    if encoded:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            pass
    return text.encode()


def _remove(members: RawObject, path: Path) -> bool:
    """Take the member at `path` out, in place; whether it was there."""
    head, *rest = path
    if head not in members:
        return False
    if not rest:
        del members[head]
        return True
    inner = _open(members[head])
    if inner is None or not _remove(inner, tuple(rest)):
        return False
    members[head] = _raw(inner)
    return True


def _open(raw: msgspec.Raw | None) -> RawObject | None:
    """The members of a JSON object; None for anything else."""
    if raw is None:
        return None
    try:
        return _members.decode(raw)
    except msgspec.ValidationError:
        return None


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode(value))
