"""`kexport new-plugin`: a whole distribution with a sink that works, to be edited into the one wanted.

What is written installs, passes the sink contract and shows in `kexport plugins` as it is. It appears at its
place whole or not at all, and nothing that is there is written over.
"""

from __future__ import annotations

import keyword
import os
import re
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from kexport import __version__
from kexport.errors import ConfigError
from kexport.hookspecs import API_VERSION
from kexport.plugins import Plugins, canonical

# In each path, as in each text, {{…}} is filled in.
_FILES = {
    "pyproject.toml": "pyproject.toml.tmpl",
    "README.md": "README.md.tmpl",
    "CHANGELOG.md": "CHANGELOG.md.tmpl",
    ".gitignore": "gitignore.tmpl",
    ".github/workflows/test.yml": "workflow.yml.tmpl",
    "{{module}}/__init__.py": "init.py.tmpl",
    "{{module}}/config.py": "config.py.tmpl",
    "{{module}}/sink.py": "sink.py.tmpl",
    "{{module}}/py.typed": "",
    "tests/test_{{underscored}}_contract.py": "test_contract.py.tmpl",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 24


def make(name: str, parent: Path, installed: Plugins) -> Path:
    """Write `parent`/kexport-`name`; raises ConfigError for a name or a directory that cannot be taken."""
    check(name, installed)
    target = parent / f"kexport-{name}"
    if os.path.lexists(target):
        raise ConfigError(f"{target} is there already and stays as it is: choose another name or --directory")
    texts = render(name)
    try:
        with TemporaryDirectory(dir=parent, prefix=".kexport-new-plugin-") as temporary:
            made = Path(temporary) / target.name
            for path, text in texts.items():
                file = made / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            made.rename(target)
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}: choose another --directory") from error
    return target


def check(name: str, installed: Plugins) -> None:
    """Raise ConfigError if a plugin cannot be called so, or one that is installed is."""
    if name.startswith("kexport-"):
        raise ConfigError(f"{name!r}: leave kexport- out: new-plugin puts it in front of the name")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise ConfigError(
            f"{name!r} is no name for a plugin: take at most {_LONGEST} lower-case letters, digits and single"
            " hyphens between them, a letter first, such as audit-trail"
        )
    if keyword.iskeyword(name):
        raise ConfigError(f"{name!r} is a word of Python's and no name for a plugin: choose another")
    if name in installed.types:
        raise ConfigError(f"sink type {name!r} is {installed.owner(name)}'s already: choose another name")
    for plugin in installed.found:
        if name == plugin.name or canonical(plugin.distribution) == f"kexport-{name}":
            raise ConfigError(
                f"plugin {plugin.name!r} of {plugin.distribution} is installed already: choose another name"
            )


def render(name: str) -> dict[str, str]:
    """The text of every file, by its path in the distribution."""
    underscored = name.replace("-", "_")
    values = {
        "api": API_VERSION,
        "module": f"kexport_{underscored}",
        "name": name,
        "title": name.title().replace("-", ""),
        "underscored": underscored,
        "version": __version__,
    }
    folder = files("kexport") / "templates" / "new-plugin"

    def fill(text: str) -> str:
        return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], text)

    return {
        fill(path): fill((folder / template).read_text(encoding="utf-8")) if template else ""
        for path, template in _FILES.items()
    }
