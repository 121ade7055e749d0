"""Bytes of the journal that changed on the disk: a correct run, or a loss that is said."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from kexport import database, statedir
from kexport.change import Known
from kexport.errors import ConfigError, JournalError
from kexport.event import Event
from kexport.places import Position
from kexport.testing import make_event
from tests.journals import PODS, config, events, running
from tests.lanes import running as delivering
from tests.lanes import settings
from tests.test_disk_faults import open_journal

SEEDS = int(os.environ.get("KEXPORT_ROTTEN_JOURNALS") or 40)
LINES = 60


class Sound(NamedTuple):
    """A journal on disk, with what it holds."""

    directory: Path
    lines: list[bytes]


@pytest.fixture
async def sound(tmp_path: Path) -> Sound:
    directory, sent = tmp_path / "sound", []
    async with open_journal(directory, "u") as (journal, _):
        for first in range(1, LINES, 10):
            padding = random.randbytes(200).hex()
            each = [make_event(first + n, data={"object": {"padding": padding}}) for n in range(10)]
            index = {f"ns/{first + n}": Known("u", str(first)) for n in range(10)}
            journal.append(PODS, each, index, Position(version=str(first)))
            sent += [event.line for event in each]
            await journal.flush()
    return Sound(directory, sent)


async def outcome(directory: Path) -> tuple[list[Event], bool]:
    """Start until it runs, three times at most; what a sink got, and whether a loss was said."""
    for _ in range(3):
        try:
            async with asyncio.timeout(20), delivering(directory, settings(a={})) as rig:
                await rig.journal.known(PODS)
                await rig.done("a")
                told = rig.sinks["a"].stored
                said = bool(rig.journal.positions[PODS].resync) or any(e.change == "gap" for e in told)
                return told, said
        except JournalError:
            continue
        except ConfigError as error:
            assert re.search("belongs to another cluster|by a newer kexport", str(error))  # noqa: PT017
            return [], True
    raise AssertionError("it never starts again")


@contextmanager
def flipped(sound: Sound, directory: Path, chance: random.Random) -> Iterator[None]:
    """A copy in which one to eight bytes, anywhere behind SQLite's own header, are others."""
    shutil.copytree(sound.directory, directory)
    file = directory / "journal.db"
    data = bytearray(file.read_bytes())
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(100, len(data))] ^= chance.randint(1, 255)
    file.write_bytes(data)
    yield
    shutil.rmtree(directory)


async def test_scenario_39_bytes_flipped_anywhere_end_in_a_correct_run_or_a_gap_never_in_another_event(
    tmp_path: Path, sound: Sound
) -> None:
    seed = random.randrange(1 << 30)
    print(f"\nseed {seed}")
    chance = random.Random(seed)
    correct = 0
    for number in range(SEEDS):
        with flipped(sound, tmp_path / "rotten", chance):
            told, said = await outcome(tmp_path / "rotten")
        lines = [event.line for event in told if event.change != "gap"]
        assert set(lines) <= set(sound.lines), f"seed {seed}, journal {number}: an event that never was"
        assert said or lines == sound.lines, f"seed {seed}, journal {number}: lost without a word"
        correct += not said
    print(f"{SEEDS} journals: {correct} correct, {SEEDS - correct} with a gap")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lanes SET cursor = 40",
        'UPDATE streams SET position = \'{"version":"900"}\' || substr(position, 200)',
        "UPDATE streams SET position = replace(CAST(position AS TEXT), '51', '91')",
        "UPDATE chunks SET last = last + 1 WHERE last = 60",
        "UPDATE chunks SET last = last + 5 WHERE last = 30",
        "DELETE FROM chunks WHERE last = 30",
        "UPDATE meta SET value = 'x' WHERE name = 'last'",
    ],
)
async def test_scenario_39_a_changed_place_is_not_believed(sound: Sound, statement: str) -> None:
    with closing(sqlite3.connect(sound.directory / "journal.db")) as db:
        db.execute(statement)
        db.commit()
    told, said = await outcome(sound.directory)
    lines = [event.line for event in told if event.change != "gap"]
    assert set(lines) <= set(sound.lines)
    assert said or lines == sound.lines


async def test_scenario_39_damage_that_is_met_while_it_runs_makes_the_next_start_set_the_file_aside(
    sound: Sound,
) -> None:
    held = statedir.hold(sound.directory)
    statedir.condemn(held, "database disk image is malformed")
    held.release()
    async with running(config(sound.directory)) as journal:
        resync = journal.positions[PODS].resync
        assert resync
        assert resync.reason == "journal-lost: damaged: database disk image is malformed"
    async with running(config(sound.directory)):
        assert len(list(sound.directory.glob("broken-*-journal.db"))) == 1


async def test_a_journal_of_an_earlier_version_is_taken_on_with_its_places(tmp_path: Path) -> None:
    async with running(config(tmp_path)) as journal:
        journal.append(PODS, events(1, 9), {}, Position(version="9"))
        await journal.flush()
        journal.advance("a", 4)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute("ALTER TABLE lanes DROP COLUMN sum")
        db.execute("PRAGMA user_version = 1")
        db.execute("UPDATE streams SET position = ?", (b'{"version":"9"}',))
        db.execute("UPDATE chunks SET data = substr(data, 21)")  # as it was without a seal
        db.commit()
    for _ in range(2):
        async with running(config(tmp_path)) as journal:
            assert journal.lane("a").cursor == 4
            assert journal.positions[PODS] == Position(version="9")
            assert len(await journal.read(4)) == 5
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (database.SCHEMA_VERSION,)
