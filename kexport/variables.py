"""`${NAME}` and `${file:/path}` in a configuration: how secrets get in without standing in the file.

The only module that takes configuration from the environment.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from kexport.errors import ConfigError

_VARIABLE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\}")


def fill_in(value: Any, secrets: dict[str, str], *, place: str = "") -> Any:
    """The same document with `${…}` replaced in every string; notes what came from where."""
    if isinstance(value, dict):
        return {
            key: fill_in(each, secrets, place=f"{place}.{key}" if place else key)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [fill_in(each, secrets, place=f"{place}[{n}]") for n, each in enumerate(value)]
    if not isinstance(value, str):
        return value
    if "${" in _VARIABLE.sub("", value):
        raise ConfigError(f"{place}: has a ${{…}} that is neither ${{NAME}} nor ${{file:/path}}; mend it")
    return _VARIABLE.sub(lambda found: _look_up(found, secrets, place), value)


def _look_up(found: re.Match[str], secrets: dict[str, str], place: str) -> str:
    if file := found["file"]:
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{place}: cannot read {found[0]}: {error}") from error
    else:
        value = os.environ.get(found["name"])
        if value is None:
            raise ConfigError(f"{place}: the environment has no variable {found['name']}; set it")
        text = value
    if text:
        secrets[text] = found[0]
    return text
