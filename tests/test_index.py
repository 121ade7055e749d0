"""The index that follows behind is at every moment what one that is written at once would be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexport import index
from kexport.change import Known
from kexport.database import connect
from kexport.index import Index

KEYS = st.sampled_from(["", "a", "ns/a", "ns/b", "ns/\N{SNOWMAN}", "other/a"])
KNOWN = st.builds(Known, uid=st.sampled_from("uv"), version=st.integers(1, 99).map(str))
MOVES = st.dictionaries(KEYS, st.none() | KNOWN, max_size=4)
COMMIT = st.dictionaries(st.integers(1, 3), MOVES, max_size=2)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "index.db", isolation_level=None)) as db:
        db.executescript(index.TABLES)
        yield db


@given(
    commits=st.lists(st.tuples(COMMIT, st.sampled_from(["succeeds", "fails", "restarts"])), max_size=12),
    most=st.integers(1, 9),
)
def test_it_knows_what_was_written_whatever_failed_and_restarted(
    commits: list[tuple[dict[int, dict[str, Known | None]], str]], most: int
) -> None:
    expected: dict[int, dict[str, Known | None]] = {1: {}, 2: {}, 3: {}}
    with pytest.MonkeyPatch.context() as patch, closing(connect(":memory:")) as db:
        patch.setattr(index, "MOST_MOVES", most)
        db.executescript(index.TABLES)
        under_test = Index(db)
        for commit, fate in commits:
            db.execute("BEGIN")
            under_test.write(commit)
            db.execute("ROLLBACK" if fate == "fails" else "COMMIT")
            for stream, moves in commit.items() if fate != "fails" else ():
                expected[stream] |= moves
            if fate == "restarts":
                under_test = Index(db)
            for stream, moves in expected.items():
                assert under_test.known(stream) == {key: known for key, known in moves.items() if known}


def test_moves_are_taken_in_when_enough_have_gathered(
    db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MOST_MOVES", 5)
    under_test = Index(db)
    for number in range(4):
        under_test.write({1: {f"ns/{number}": Known("u", "1")}})
    assert _rows(db, "moves") == 4
    assert _rows(db, "objects") == 0
    Index(db).write({1: {"ns/0": None}})  # after a restart, too
    assert _rows(db, "moves") == 0
    assert _rows(db, "objects") == 3


def test_nothing_is_left_of_another_cluster(db: sqlite3.Connection) -> None:
    under_test = Index(db)
    under_test.write({1: {"ns/a": Known("u", "1")}})
    under_test.forget()
    assert under_test.known(1) == {}


@pytest.mark.parametrize(
    "damage", ["zeroblob(9)", "substr(data, 1, length(data) - 1)", "'text'", "zeroblob(0)"]
)
def test_damaged_moves_are_no_moves_at_all(db: sqlite3.Connection, damage: str) -> None:
    under_test = Index(db)
    under_test.write({1: {"ns/a": Known("u", "1")}})
    db.execute(f"UPDATE moves SET data = {damage}")
    with pytest.raises(sqlite3.DatabaseError, match="index of objects is damaged"):
        under_test.known(1)


def _rows(db: sqlite3.Connection, table: str) -> int:
    (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)
