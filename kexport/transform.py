"""What a [[transforms]] entry does to an object: hash, drop, keep and rename members.

Bytes first: only what lies on the way to a changed member is taken apart, each part once, and stays so until
the whole object is written; what no rule touches keeps the bytes that it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

from kexport.errors import ConfigError
from kexport.paths import EVERY, IDENTITY, Path, fits, parse_path, touched
from kexport.tables import TransformConfig

Kind = Literal["redact", "hash", "drop", "keep", "rename"]
Hash = Callable[[bytes], str]
Members = dict[str, Any]
"""An object's members, each as its JSON text (msgspec.Raw), or taken apart already."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_LAST_APPLIED_PATH: Path = ("metadata", "annotations", LAST_APPLIED)
# Where pods and whatever has a template of one keep the pod's spec. A ControllerRevision has a copy in data.
_POD_SPECS: tuple[Path, ...] = (
    ("spec",),
    ("spec", "template", "spec"),
    ("spec", "jobTemplate", "spec", "template", "spec"),
    ("template", "spec"),
    ("data", "spec", "template", "spec"),
)
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
PRESETS: dict[str, tuple[Path, ...]] = {
    # kubectl's copy has the same values in it.
    "env": (
        *((*spec, name, EVERY, "env", EVERY, "value") for spec in _POD_SPECS for name in _CONTAINERS),
        _LAST_APPLIED_PATH,
    ),
    "last-applied": (_LAST_APPLIED_PATH,),
}

_opening = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_encoder = msgspec.json.Encoder()
_NOTHING = object()
Inside = Any
"""Members by their names, or a list of elements."""


class Rule(msgspec.Struct, frozen=True):
    """One thing to do with all these paths; `targets` are where `rename` moves them, one for one."""

    kind: Kind
    paths: tuple[Path, ...]
    targets: tuple[Path, ...] = ()


def rules(config: TransformConfig) -> list[Rule]:
    """In the order in which they act; raises ConfigError that names the key."""
    found = [
        Rule("redact", tuple(dict.fromkeys(path for name in config.redact for path in PRESETS[name]))),
        Rule("hash", tuple(_changeable("hash", text) for text in config.hash)),
        Rule("drop", tuple(_changeable("drop", text) for text in config.drop)),
        Rule("keep", tuple(_parsed("keep", text) for text in config.keep)),
        Rule(
            "rename",
            tuple(_name("rename", text) for text in config.rename),
            tuple(_name("rename", text) for text in config.rename.values()),
        ),
    ]
    return [rule for rule in found if rule.paths]


def _parsed(key: str, text: str) -> Path:
    try:
        return parse_path(text)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _changeable(key: str, text: str) -> Path:
    path = _parsed(key, text)
    if field := touched(path):
        raise ConfigError(
            f"{key}: {text!r} would change {field}, and without it nobody knows which object it is, or in"
            " which state; name what lies beside it"
        )
    return path


def _name(key: str, text: str) -> Path:
    """A path to one member, as `rename` needs it."""
    path = _changeable(key, text)
    if not all(isinstance(segment, str) for segment in path):
        raise ConfigError(f"{key}: {text!r} has a pattern; a field is moved by its name: a.b['c.d/e']")
    if any(path[: len(field)] == field for field in IDENTITY):
        raise ConfigError(f"{key}: {text!r} lies inside a field that has no members")
    return path


# -- what rules do ----------------------------------------------------------------------------------------


class _Node:
    """The paths of a rule as a tree, so that what lies on the way of several is taken apart once."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.names: dict[str, _Node] = {}
        self.patterns: list[tuple[Any, _Node]] = []
        branches: dict[Any, list[Path]] = {}
        self.ends = False
        """A path ends here: this is what the rule is about."""
        for path in paths:
            if path:
                branches.setdefault(path[0], []).append(path[1:])
            else:
                self.ends = True
        for segment, rest in branches.items():
            if isinstance(segment, str):
                self.names[segment] = _Node(rest)
            else:
                self.patterns.append((segment, _Node(rest)))
        self.literal = [(name, (node,)) for name, node in self.names.items()]
        self.every = tuple(node for segment, node in self.patterns if segment == EVERY)


_Nodes = tuple[_Node, ...]


def compiled(rule: Rule, digest: Hash) -> Callable[[Members], Members]:
    """The rule as a function from members to members; it may change those that it gets."""
    if rule.kind == "rename":
        moves = [*zip(rule.paths, rule.targets, strict=True)]
        return lambda members: _renamed(members, moves)
    if rule.kind == "keep":
        kept = (_Node((*IDENTITY, *rule.paths)),)
        return lambda members: _kept(members, kept)
    nodes = (_Node(rule.paths),)
    act = _remove if rule.kind == "drop" else _hashing(digest)

    def change(members: Members) -> Members:
        _change(members, nodes, act)
        return members

    return change


def opened(value: object) -> Inside | None:
    """The members or elements of what is an object or array; None for anything else."""
    if isinstance(value, msgspec.Raw):
        try:
            return _opening.decode(value)
        except msgspec.ValidationError:
            return None
    return value if isinstance(value, dict | list) else None


Act = Callable[[Inside, Any], None]


def _change(inside: Inside, nodes: _Nodes, act: Act) -> bool:
    """Let `act` change what the paths lead to, in place; whether there was anything."""
    changed = False
    # From the end, since an element that goes moves those behind it.
    for key, below in reversed(_matches(inside, nodes)):
        if _end(below):
            act(inside, key)
            changed = True
            continue
        value = opened(inside[key])
        if value is not None and _change(value, below, act):
            inside[key] = value
            changed = True
    return changed


def _end(nodes: _Nodes) -> bool:
    return nodes[0].ends if len(nodes) == 1 else any(node.ends for node in nodes)


def _matches(inside: Inside, nodes: _Nodes) -> Sequence[tuple[Any, _Nodes]]:
    """The members or elements on the way of some path, with what is left of those paths."""
    alone = nodes[0] if len(nodes) == 1 else None
    if isinstance(inside, list):
        every = alone.every if alone else tuple(below for node in nodes for below in node.every)
        return [(number, every) for number in range(len(inside))] if every else ()
    if alone and not alone.patterns:
        return [(name, below) for name, below in alone.literal if name in inside]
    found = ((name, _below(name, nodes)) for name in inside)
    return [(name, below) for name, below in found if below]


def _below(name: str, nodes: _Nodes) -> _Nodes:
    return tuple(
        below
        for node in nodes
        for below in (
            *((node.names[name],) if name in node.names else ()),
            *(below for segment, below in node.patterns if fits(segment, name)),
        )
    )


def _remove(inside: Inside, key: Any) -> None:
    del inside[key]


def _hashing(digest: Hash) -> Act:
    def put_hash(inside: Inside, key: Any) -> None:
        inside[key] = digest(_content(inside[key]))

    return put_hash


def _content(value: object) -> bytes:
    """What is hashed: a text's characters, as in a Secret; anything else as JSON, which no text equals."""
    raw = bytes(value) if isinstance(value, msgspec.Raw) else _encoder.encode(value)
    if raw.startswith(b'"'):
        try:
            return _text.decode(raw).encode()
        except msgspec.DecodeError:  # half a surrogate pair
            return raw
    return b"\0json:" + msgspec.json.format(raw, indent=-1)


def _kept(members: Members, nodes: _Nodes) -> Members:
    kept = _only(members, nodes)
    return kept if isinstance(kept, dict) else {}


def _only(value: object, nodes: _Nodes) -> Any:
    """What the paths lead to, in as much around it as it needs; what has none of it is left out."""
    inside = opened(value)
    if inside is None:
        return _NOTHING
    found = []
    for key, below in _matches(inside, nodes):
        each = inside[key]
        kept = each if _end(below) else _only(each, below)
        if kept is not _NOTHING:
            found.append((key, kept))
    if not found:
        return _NOTHING
    if isinstance(inside, list):
        return [kept for _, kept in found]
    whole = dict(found)
    return {name: whole[name] for name in inside if name in whole}


def _renamed(members: Members, moves: Iterable[tuple[Path, Path]]) -> Members:
    for source, target in moves:
        if not _blocked(members, source, target):
            value = _take(members, source)
            if value is not _NOTHING:
                _put(members, target, value)
    return members


def _blocked(members: Members, source: Path, target: Path) -> bool:
    """Whether something without members stands on the way to the target, once the source is gone."""
    inside: Inside = members
    for depth, name in enumerate(target[:-1], 1):
        if target[:depth] == source or not isinstance(inside, dict) or name not in inside:
            break
        inside = opened(inside[name])
    return not isinstance(inside, dict)


def _take(members: Members, path: Path) -> Any:
    head: Any = path[0]
    if head not in members:
        return _NOTHING
    if len(path) == 1:
        return members.pop(head)
    inside = opened(members[head])
    if not isinstance(inside, dict):
        return _NOTHING
    value = _take(inside, path[1:])
    if value is not _NOTHING:
        members[head] = inside
    return value


def _put(members: Members, path: Path, value: Any) -> None:
    for name in path[:-1]:
        key: Any = name
        inside = opened(members[key]) if key in members else {}
        assert isinstance(inside, dict)  # see _blocked
        members[key] = inside
        members = inside
    last: Any = path[-1]
    members[last] = value
