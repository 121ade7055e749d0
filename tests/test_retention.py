"""What leaves the journal: the count of what is stored stays true, and the file shrinks with it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kexport import database
from kexport.places import Commit, Lane
from kexport.retention import Retention
from kexport.store import SHRINK_PAGES, SPARE_PAGES, Store
from tests.journals import config

PAGE_BYTES = 4096


class Connection(sqlite3.Connection):
    """Of a disk that may have no room to move what is stored."""

    refused: sqlite3.OperationalError | None = None

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        self._refuse(sql)
        return super().execute(sql, *arguments)

    def executescript(self, script: str) -> sqlite3.Cursor:
        self._refuse(script)
        return super().executescript(script)

    def _refuse(self, sql: str) -> None:
        if self.refused and "incremental_vacuum" in sql:
            raise self.refused


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    database.create(tmp_path / "journal.db")
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path, isolation_level=None, factory=Connection)) as connection:
        yield connection


@pytest.fixture
def store(db: Connection) -> Store:
    return Store(db)


def fill(store: Store, chunks: int, size: int = 1000) -> int:
    """Store so many chunks of an event each; the newest position."""
    for _ in range(chunks):
        store.commit(Commit(store.last(), [os.urandom(size)]))
    return store.last()


def keeping(store: Store, tmp_path: Path, **settings: Any) -> Retention:
    return Retention(config(tmp_path, **settings), store)


def trim(retention: Retention, newest: int) -> None:
    """Every lane has everything."""
    retention.trim({"a": Lane(newest)}, newest)


def pages(db: Connection) -> int:
    count: int = db.execute("PRAGMA page_count").fetchone()[0]
    return count


def full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_what_a_clock_that_was_ahead_made_look_younger_is_counted_when_it_goes(
    db: Connection, store: Store, tmp_path: Path
) -> None:
    newest = fill(store, 20)
    db.execute("UPDATE chunks SET at = at + 7200 WHERE last < ?", (newest,))
    retention = keeping(store, tmp_path, keep_seconds=0)
    trim(retention, newest)
    assert retention.bytes == store.size() == 0


def test_no_more_rows_go_at_once_than_a_commit_can_wait_for(db: Connection, store: Store) -> None:
    newest = fill(store, 20)
    db.execute("UPDATE chunks SET at = 1e12 WHERE last < ?", (newest,))
    sizes = [size for (size,) in db.execute("SELECT length(data) FROM chunks ORDER BY last LIMIT 5")]
    assert store.trim(passed=newest, before=1e11, most=5) == sum(sizes)
    assert store.oldest() == (6, 1)


@pytest.mark.parametrize("room", ["trim", "give_way"])
def test_what_is_deleted_is_counted_although_the_disk_has_no_room_to_shrink_the_file(
    db: Connection, store: Store, tmp_path: Path, room: str
) -> None:
    newest = fill(store, 8, 1 << 20)
    retention = keeping(store, tmp_path, keep_seconds=0)
    db.refused = full()
    trim(retention, newest) if room == "trim" else retention.give_way(newest)
    assert retention.bytes == store.size() == 0
    db.refused = None
    before = pages(db)
    assert retention._loose
    trim(retention, newest)
    assert pages(db) < before


def test_a_file_that_cannot_be_shrunk_because_it_is_damaged_is_told(
    db: Connection, store: Store, tmp_path: Path
) -> None:
    newest = fill(store, 8, 1 << 20)
    db.refused = sqlite3.OperationalError("database disk image is malformed")
    db.refused.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    with pytest.raises(sqlite3.OperationalError, match="malformed"):
        trim(keeping(store, tmp_path, keep_seconds=0), newest)


def test_the_file_shrinks_by_so_much_a_call_until_little_more_is_in_it_than_is_stored(
    db: Connection, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.retention.TRIM_SECONDS", 0.0)
    newest = fill(store, 24, 1 << 20)
    retention = keeping(store, tmp_path, keep_seconds=0)
    sizes = [pages(db)]
    while retention.due:
        trim(retention, newest)
        sizes.append(pages(db))
    # A page that only says where others are may go with them.
    assert all(0 < before - after <= SHRINK_PAGES + 8 for before, after in pairwise(sizes))
    assert sizes[0] > 24 * (1 << 20) / PAGE_BYTES
    assert sizes[-1] < SPARE_PAGES * 4 / 3 + 50


def test_room_that_what_comes_next_will_fill_stays_in_the_file(
    db: Connection, store: Store, tmp_path: Path
) -> None:
    newest = fill(store, 20, 1 << 20)
    before = pages(db)
    retention = keeping(store, tmp_path, keep_seconds=0)
    retention.give_way(newest - 16)
    assert pages(db) == before
    fill(store, 4, 1 << 20)
    assert pages(db) <= before + 8
