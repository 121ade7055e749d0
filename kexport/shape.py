"""What is cut from an object, and hidden in it, before it reaches the disk: managedFields, Secret values, and
whatever the configured transforms say.

Bytes first: only the members on the way to a changed field are taken apart; their siblings stay the bytes
they were.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence

import msgspec

from kexport.change import RawObject
from kexport.lines import MAX_DEPTH, flatten
from kexport.managers import attach
from kexport.transform import LAST_APPLIED, Members, Rule, compiled

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_strings = msgspec.json.Decoder(dict[str, str])
_encoder = msgspec.json.Encoder()
HASHED = "hmac-sha256:"


class Shaper:
    """Turns an object of one resource into the bytes that may be stored.

    `resource` is its full name (`secrets`, `deployments.apps`), `key` the redaction key, `rules` what the
    transforms do. `metadata.managedFields` always goes: it is half of many objects, and no state of theirs.
    With `managers` who and when is attached to what is left (`managers.attach`).
    """

    def __init__(
        self, resource: str, key: bytes, rules: Sequence[Rule] = (), *, managers: bool = False
    ) -> None:
        self._managers = managers
        self._rules = tuple(rules)
        self._secret = resource == "secrets"
        self._key = key
        self._steps = [compiled(rule, self._hash) for rule in rules]

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
        how = repr((self._rules, self._secret)).encode()
        return hmac.digest(self._key, how, "sha256").hex()

    def _cut(self, members: Members) -> Members:
        if self._secret:
            self._redact(members)
        metadata = _open(members.get("metadata"))
        if metadata and metadata.pop("managedFields", None) is not None:
            members["metadata"] = metadata
        for step in self._steps:
            members = step(members)
        return members

    def _redact(self, members: Members) -> Members:
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
        return HASHED + hmac.digest(self._key, value, "sha256").hex()


def _plain(text: str, *, encoded: bool) -> bytes:
    """The value itself, so that it gives one hash whether it stood in data or in stringData."""
    if encoded:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            pass
    return text.encode()


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
