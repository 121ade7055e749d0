"""Sets a sink's place back in the journal of a kexport that does not run, under the journal's lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from kexport import database, statedir
from kexport.errors import ConfigError, JournalError
from kexport.places import Commit
from kexport.replay import Repeat, Replay
from kexport.settings import nearest
from kexport.store import Store


def replay(directory: Path, sink: str, wanted: Replay) -> Repeat:
    """What the sink will get again after the next start; raises ConfigError and JournalError."""
    with _held(directory.expanduser()) as store:
        lanes = store.lanes()
        if sink not in lanes:
            raise ConfigError(f"the journal knows no sink named {sink!r}{nearest(sink, lanes)}")
        position, lane = wanted.begin(store), lanes[sink]
        if position >= lane.cursor:
            return Repeat(position + 1, 0)
        store.commit(Commit(store.last(), lanes={sink: lane._replace(cursor=position)}))
        return Repeat(position + 1, lane.cursor - position)


@contextmanager
def _held(directory: Path) -> Iterator[Store]:
    """The store of a sound journal; what the next start would set aside is left to that start."""
    statedir.present(directory)
    held = statedir.hold(directory)
    try:
        if problem := statedir.trouble(held):
            raise JournalError(f"the journal in {directory}: {problem}; start kexport, which sees to that")
        with closing(database.connect(held.file)) as db:
            database.bring_up_to_date(db)
            yield Store(db)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"the journal in {directory} cannot be used now: {error}") from error
    finally:
        held.release()
