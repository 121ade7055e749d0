"""A folder that is taken away and comes back, each in one step: nobody can make another between."""

from __future__ import annotations

from pathlib import Path


class Link:
    """A link at `path`: to a folder, or while it is down to a file, in which nothing can be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.with_name(path.name + "-folder")
        self._file = path.with_name(path.name + "-file")
        self._folder.mkdir()
        self._file.touch()
        self.up()

    def down(self) -> None:
        self._lead_to(self._file)

    def up(self) -> None:
        self._lead_to(self._folder)

    def _lead_to(self, target: Path) -> None:
        fresh = self._path.with_name(self._path.name + "-fresh")
        fresh.symlink_to(target)
        fresh.replace(self._path)
