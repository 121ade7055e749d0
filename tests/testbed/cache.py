"""Where the built servers are kept: a folder outside the tree that a warm run only reads.

A part is built in a temporary folder beside its place and renamed when complete, so what is in
place is whole even if the build was killed; a file lock keeps two runs from building at once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testbed.recipes import ClonedPart, Part


class BuildError(Exception):
    """A part can't be built; the message names the part, the command and what it said."""


class NotBuiltError(Exception):
    """A server was asked for whose binary isn't in the cache; the message says what builds it."""


def cache_folder() -> Path:
    if chosen := os.environ.get("KEXPORT_TESTBED_CACHE"):
        return Path(chosen).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "kexport-testbed"
    return Path.home() / ".cache" / "kexport-testbed"


def find(part: Part) -> Path | None:
    """The folder with what the part's recipe made, or None."""
    folder = cache_folder() / part.folder_name
    return folder if folder.is_dir() else None


def require(part: Part) -> Path:
    folder = find(part)
    if folder is None:
        raise NotBuiltError(f"{part.name} {part.version} is not in {cache_folder()}: {way_to_build(part)}")
    return folder


def way_to_build(part: Part) -> str:
    """What to do for a part that isn't there."""
    if not isinstance(part, ClonedPart):
        return "run make live"
    return f"name the folder of a clone of {part.repository} in {part.variable} and run make bench"


def build(part: Part) -> Path:
    """Build the part unless it is there already; the caller holds the lock."""
    if folder := find(part):
        return folder
    missing = [tool for tool in part.needs if shutil.which(tool) is None]
    if missing:
        raise BuildError(f"{part.name} {part.version} needs {' and '.join(missing)} on PATH")
    place = cache_folder() / part.folder_name
    log_file = place.with_name(place.name + ".log")
    log_file.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as temporary:
        source, product = Path(temporary, "source"), Path(temporary, "product")
        source.mkdir()
        product.mkdir()
        for name, text in part.files.items():
            (source / name).write_text(text)
        for command in part.commands:
            _run(command, part=part, folder=source, log_file=log_file)
        product.rename(place)
    return place


@contextmanager
def locked() -> Iterator[None]:
    """Hold the cache's lock; the system lets go of it when the process ends, however it ends."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another build in {folder}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_leftovers() -> None:
    """Remove the temporary folders of builds that were killed; the caller holds the lock."""
    for folder in cache_folder().glob(".*-*"):
        shutil.rmtree(folder)


def tail(file: Path, *, lines: int = 25) -> str:
    """The end of a log, for a message that should say why something failed."""
    if not file.exists():
        return "(no log)"
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])


def _run(command: tuple[str, ...], *, part: Part, folder: Path, log_file: Path) -> None:
    # The local toolchain and no C compiler: the same binary on every machine, nothing fetched
    # besides the modules.
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    with log_file.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise BuildError(
            f"{part.name} {part.version}: `{' '.join(command)}` ended with {done.returncode}; "
            f"{log_file} ends with\n{tail(log_file)}"
        )
