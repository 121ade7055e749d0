"""The journal's directory: one process at a time, and a file that is either sound or set aside.

A damaged or foreign file is renamed, never deleted and never written over, and the new journal remembers that
its history was lost, so that every stream says so in a gap event.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from kexport import database
from kexport.errors import ConfigError, JournalError, JournalLockedError
from kexport.store import Store
from kexport.telemetry import get_log

FILE = "journal.db"
KEY_FILE = "redaction.key"
OPEN_FILE = "open"  # there while the journal is in use, and after a crash
CONDEMNED_FILE = "journal.db-damage"  # what a running process found to be wrong with the journal
_COMPANIONS = frozenset({".db-wal", ".db-shm", ".db-damage"})
_MAGIC = b"SQLite format 3\x00"
_log = get_log("journal")


class StateDir(NamedTuple):
    """A held directory; `lock` keeps others out for as long as the file descriptor is open."""

    path: Path
    lock: int

    @property
    def file(self) -> Path:
        return self.path / FILE

    @property
    def log(self) -> Path:
        return self.path / f"{FILE}-wal"

    def release(self) -> None:
        os.close(self.lock)


def hold(path: Path) -> StateDir:
    """Make the directory if need be and lock it; raises ConfigError or JournalLockedError."""
    lock_file = path / "lock"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise JournalLockedError(
            f"the journal in {path} is in use by process {holder}; stop it, or name another journal.path"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(descriptor)
        raise _cannot(path, error) from error
    return StateDir(path, descriptor)


def prepare(directory: StateDir) -> None:
    """See to it that the journal's file is there and sound; one that isn't is set aside, loudly.

    Raises ConfigError for a file of a newer version, which must not be touched, and JournalError when the
    disk refuses: that says nothing about the file.
    """
    try:
        _prepare(directory)
        mark_closed(directory)  # looking into the file tidied it up
    except OSError as error:
        raise _cannot(directory.path, error) from error
    except sqlite3.DatabaseError as error:
        raise JournalError(
            f"the journal in {directory.path} cannot be opened: {error};"
            " make room, or mend the disk, and start again: the file stays as it is"
        ) from error


def _prepare(directory: StateDir) -> None:
    if not directory.file.exists():
        # A first start has no history to lose. A key or a write-ahead log says that there was one.
        had_one = _leftovers(directory) or (directory.path / KEY_FILE).exists()
        _create(directory, lost=_set_aside(directory, "file missing") if had_one else "")
        return
    # Asked first, since to look into the file makes a new one.
    log_missing = _crashed(directory) and not directory.log.exists()
    problem = _condemned(directory) or _problem(directory.file)
    if problem:
        _create(directory, lost=_set_aside(directory, problem))
    elif log_missing:
        _log.error("the journal's write-ahead log is missing: what was committed last is gone")
        database.say_lost(directory.file, "write-ahead log missing")


def trouble(directory: StateDir) -> str:
    """Why the next start would not take this journal as it is; "" for one that is sound."""
    problem = _condemned(directory)
    if not problem and _crashed(directory) and not directory.log.exists():
        problem = "its write-ahead log is missing"
    if not problem:
        mark_closed(directory)  # to look into the file takes its log away
        problem = _problem(directory.file)
    return problem


def condemn(directory: StateDir, problem: str) -> None:
    """A process that runs found damage: the next start shall not trust the file, even if it looks sound."""
    with suppress(OSError):
        (directory.path / CONDEMNED_FILE).write_text(problem)
        sync(directory.path)


def _condemned(directory: StateDir) -> str:
    try:
        problem = (directory.path / CONDEMNED_FILE).read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return f"damaged: {problem}"


def mark_open(directory: StateDir) -> None:
    """From now on, also after a crash, there is a write-ahead log beside the file."""
    (directory.path / OPEN_FILE).touch(mode=0o600)
    sync(directory.path)


def _crashed(directory: StateDir) -> bool:
    return (directory.path / OPEN_FILE).exists()


def mark_closed(directory: StateDir) -> None:
    """The journal is being closed, and its write-ahead log will go: say so first."""
    with suppress(OSError):
        (directory.path / OPEN_FILE).unlink(missing_ok=True)
        sync(directory.path)


def redaction_key(path: Path) -> bytes:
    """The secret with which values are hashed: 32 bytes beside the journal, made at first use, mode 0600.

    Raises ConfigError when it is there but can't be used: a new key would make every secret look changed.
    """
    file = path / KEY_FILE
    try:
        key = file.read_bytes() if file.exists() else _make_key(file)
    except OSError as error:
        raise ConfigError(
            f"cannot read or make the redaction key {file}: {error.strerror}; make it accessible"
        ) from error
    if len(key) != 32:
        raise ConfigError(f"the redaction key {file} has {len(key)} bytes, not 32; restore it, or delete it")
    return key


def _make_key(file: Path) -> bytes:
    key = secrets.token_bytes(32)
    fresh = file.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(key)
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(file)
    sync(file.parent)
    return key


def _create(directory: StateDir, *, lost: str) -> None:
    """Under another name first: a journal that exists under its own name is complete."""
    fresh = directory.path / f"{FILE}.new"
    for leftover in directory.path.glob(f"{FILE}.new*"):
        leftover.unlink()
    database.create(fresh, lost=lost)
    fresh.chmod(0o600)
    fresh.rename(directory.file)
    sync(directory.path)


def _leftovers(directory: StateDir) -> list[Path]:
    return [path for path in directory.path.glob(f"{FILE}-*") if path.suffix in _COMPANIONS]


def _set_aside(directory: StateDir, problem: str) -> str:
    """Rename the file and its companions; what to remember about it."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{os.getpid()}"
    for path in (directory.file, *_leftovers(directory)):
        if path.exists():
            path.rename(path.with_name(f"broken-{stamp}-{path.name}"))
    sync(directory.path)
    _log.error(
        "the journal could not be used and was set aside; every stream is read anew, with a gap event",
        problem=problem,
        kept_as=str(directory.path / f"broken-{stamp}-{FILE}"),
    )
    return problem


def _problem(path: Path) -> str:
    """Why this file is no usable journal; "" for a sound one."""
    with path.open("rb") as file:
        head = file.read(100)
    if not head.startswith(_MAGIC):
        return "not an SQLite file" if head else "empty file"
    # Read from the header, since opening another program's database would already change it.
    if int.from_bytes(head[68:72], "big") != database.APPLICATION_ID:
        return "an SQLite file of another program"
    try:
        with closing(database.connect(path)) as db:
            return _examine(db, path)
    except sqlite3.DatabaseError as error:
        if database.may_pass(error):
            raise
        return f"damaged: {error}"
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        return f"damaged: {error}"


def _examine(db: sqlite3.Connection, path: Path) -> str:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > database.SCHEMA_VERSION:
        raise ConfigError(
            f"the journal {path} was written by a newer kexport (schema {version}, this one knows"
            f" {database.SCHEMA_VERSION}); run that version, or name another journal.path to start anew"
        )
    (pages,), (page_bytes,) = (db.execute(f"PRAGMA page_{what}").fetchone() for what in ("count", "size"))
    if pages * page_bytes <= database.CHECK_BYTES:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            return f"damaged: {verdict}"
    store = Store(db)
    store.positions(), store.served()
    newest = store.last()
    ahead = [name for name, lane in store.lanes().items() if lane.cursor > newest]
    return f"damaged: the sinks {ahead} are ahead of the newest event, {newest}" if ahead else ""


def present(directory: Path) -> Path:
    """The journal's file in this directory; raises ConfigError where there is none, or none for us."""
    file = directory.expanduser() / FILE
    try:
        file.stat()
    except FileNotFoundError as error:
        raise ConfigError(
            f"journal.path: there is no journal in {directory}, from {Path.cwd()}; has kexport run with this"
            " file, and there?"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"journal.path: the journal in {directory} cannot be read: {error.strerror}; it is its"
            " owner's, and root's"
        ) from error
    return file


def _cannot(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"journal.path: cannot write to the state directory {path}: {error.strerror};"
        " make it writable, or name another"
    )


def sync(directory: Path) -> None:
    """Make durable which files the directory has."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
