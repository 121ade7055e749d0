"""A sample object for `kexport check --explain`: out of a file, from standard input, or from the cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

import msgspec
import yaml

from kexport.change import RawObject
from kexport.discovery import Catalogue
from kexport.errors import ConfigError
from kexport.kube import Client

_FORMS = "write FILE.json, FILE.yaml, - for standard input, or RESOURCE/NAMESPACE/NAME"
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_text = msgspec.json.Decoder(str)


class _Loader(yaml.SafeLoader):
    """Leaves times as text, as the API server has them."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


async def read(what: str, client: Client, catalogue: Catalogue) -> list[RawObject]:
    """The objects that `what` means; raises ConfigError, and what a request raises."""
    if what == "-":
        return parse(sys.stdin.read())
    if Path(what).is_file():
        return parse(Path(what).read_text(encoding="utf-8"))
    if "/" not in what or what.endswith((".json", ".yaml", ".yml")):
        raise ConfigError(f"--explain {what}: there is no such file; {_FORMS}")
    return [await _from_cluster(what, client, catalogue)]


def parse(text: str) -> list[RawObject]:
    """Every object in a text, JSON or YAML, in lists and several documents; raises ConfigError."""
    try:
        documents = [_members.decode(text.strip())]
    except msgspec.DecodeError:
        documents = _from_yaml(text)
    return [item for document in documents for item in _single(document)]


def _from_yaml(text: str) -> list[RawObject]:
    try:
        documents = [each for each in yaml.load_all(text, Loader=_Loader) if each is not None]
        return [_members.decode(msgspec.json.encode(each)) for each in documents]
    except (yaml.YAMLError, msgspec.DecodeError, TypeError) as error:
        raise ConfigError(f"--explain: the sample is neither JSON nor YAML of an object: {error}") from error


def _single(document: RawObject) -> list[RawObject]:
    if not kind(document).endswith("List") or "items" not in document:
        return [document]
    return _items.decode(document["items"])


def kind(members: RawObject) -> str:
    return _word(members, "kind")


def api_version(members: RawObject) -> str:
    return _word(members, "apiVersion")


def _word(members: RawObject, name: str) -> str:
    try:
        return _text.decode(members[name])
    except (KeyError, msgspec.DecodeError):
        return ""


async def _from_cluster(what: str, client: Client, catalogue: Catalogue) -> RawObject:
    name, *rest = what.split("/")
    resource = catalogue.find(name)[0]
    if len(rest) != 1 + resource.namespaced:
        form = "NAMESPACE/NAME" if resource.namespaced else "NAME"
        raise ConfigError(f"--explain {what}: write {resource.full_name}/{form}")
    path = resource.path(rest[0] if resource.namespaced else None)
    return _members.decode(await client.get(f"{path}/{quote(rest[-1], safe='')}"))
