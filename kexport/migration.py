"""`kexport migrate`: another exporter's configuration as config.toml; what has no twin gets a comment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from kexport import collector, eventexporter
from kexport.draft import Draft, comment
from kexport.errors import ConfigError, KexportError

ORIGINS: Final = MappingProxyType(
    {"kubernetes-event-exporter": eventexporter.translate, "k8sobjects": collector.translate}
)
_HINT = (
    "A comment that begins with a line's number says what of that line has no twin, and what to do instead."
    " Then: kexport check -c FILE."
)
_CEL = "Conditions (where) are CEL, which needs the extra kexport[cel]."


def migrate(origin: str, source: Path) -> Draft:
    """The draft of config.toml; raises ConfigError that names the file, the line, and the way out."""
    translate: Callable[[str], Draft] = ORIGINS[origin]
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: is not UTF-8: {error.reason}") from error
    try:
        draft = translate(text)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return draft


def render(draft: Draft, origin: str, source: Path) -> str:
    """The file, with a head that says where it is from."""
    body = draft.render()
    said = [f"Made by kexport migrate {origin} from {source.name}.", _HINT]
    said += [_CEL] if "\nwhere = " in body else []
    return "\n".join(line for sentence in said for line in comment(sentence)) + f"\n\n{body}"


def write(text: str, target: Path) -> None:
    """Write a new file; one that is there stays as it is."""
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{target} is there already and stays as it is: choose another name") from error
    except OSError as error:
        raise KexportError(f"cannot write {target}: {error.strerror}: choose another place") from error
