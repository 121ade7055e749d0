"""kexport as an operator starts it, and what its journal says from outside."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from kexport import statedir
from tests.bench.child import ROOT, Child
from tests.bench.figures import Rows
from tests.bench.stub import Served
from tests.exporter import toml_of

PODS = Served("", "v1", "pods", "Pod", "pods", 1000)
EVENTS = Served("", "v1", "events", "Event", "events", 20_000)
WIDGETS = Served("bench.example.com", "v1", "widgets", "Widget", "widgets", 1000)
SECRETS = Served("", "v1", "secrets", "Secret", "secrets", 1000)
CONFIGMAPS = Served("", "v1", "configmaps", "ConfigMap", "configmaps", 1000)

# A sink keeps a batch in hand and waits up to 60 s for more: a run must end some time.
S3_BATCH = {"max_events": 50_000, "max_bytes": 64_000_000, "max_wait_seconds": 1}


class Bench(NamedTuple):
    """What a scenario gets: where to put figures and files, and how much to do."""

    rows: Rows
    folder: Path
    scale: float = 1.0
    """Of every count: 1 gives figures, a hundredth shows that all of it works."""
    full: bool = False

    def count(self, number: int) -> int:
        return max(20, round(number * self.scale))

    def seconds(self, number: float) -> float:
        """A time to look on for: some seconds less in a quick run."""
        return number if self.scale == 1 else 2.0

    def new_folder(self, name: str) -> Path:
        folder = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        return folder


class Exporter(Child):
    """`kexport run` in `folder`; `state` there is its journal, and a second one goes on from it."""

    def __init__(
        self,
        folder: Path,
        url: str,
        resources: Sequence[str | Mapping[str, Any]],
        sinks: Mapping[str, Mapping[str, Any]],
        *,
        transforms: Sequence[Mapping[str, Any]] = (),
        routes: Sequence[Mapping[str, Any]] = (),
        kubeconfig: str = "",
        shutdown_seconds: float = 20.0,
    ) -> None:
        cluster = {"name": "bench", **({"kubeconfig": kubeconfig} if kubeconfig else {"url": url})}
        document = {
            "cluster": cluster,
            "journal": {"path": str(folder / "state")},
            "http": {"listen": "127.0.0.1:0"},  # several run side by side
            "resources": [{"resource": each} if isinstance(each, str) else dict(each) for each in resources],
            "transforms": list(transforms),
            "routes": list(routes),
            "sinks": {name: dict(settings) for name, settings in sinks.items()},
        }
        text = f"shutdown_seconds = {shutdown_seconds}\n" + toml_of(_without_empty(document))
        (folder / "config.toml").write_text(text, encoding="utf-8")
        self._journal = folder / "state" / statedir.FILE
        super().__init__(
            [sys.executable, "-m", "kexport", "run", "-c", str(folder / "config.toml")],
            folder,
            environment={"PYTHONPATH": os.pathsep.join([str(_install(folder)), str(ROOT)])},
        )

    def wait_delivered(self, events: int, *, seconds: float = 600) -> None:
        """Until every lane has acknowledged so many events: its cursor is written within 0.1 s."""

        def delivered() -> bool:
            cursors = self.ask("SELECT cursor FROM lanes")
            return bool(cursors) and min(cursor for (cursor,) in cursors) >= events

        self.wait_until(delivered, seconds=seconds, what=f"every sink acknowledged {events} events")

    def wait_stored(self, events: int, *, seconds: float = 600) -> None:
        """Until so many events are in the journal."""

        def stored() -> bool:
            found = self.ask("SELECT max(last) FROM chunks")
            return bool(found) and (found[0][0] or 0) >= events

        self.wait_until(stored, seconds=seconds, what=f"{events} events are stored")

    def wait_watching(self, streams: int = 1, *, seconds: float = 120) -> None:
        """Until so many streams have a version to watch from."""

        def synced() -> bool:
            found = self.ask(
                "SELECT count(*) FROM streams WHERE instr(CAST(position AS TEXT), '\"version\"')"
            )
            return bool(found) and found[0][0] >= streams

        self.wait_until(synced, seconds=seconds, what=f"{streams} streams are synced")

    @property
    def journal(self) -> Path:
        return self._journal

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Read its journal beside it; nothing while there is none."""
        if not self._journal.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{self._journal}?mode=ro", uri=True, timeout=5)) as db:
                return db.execute(query).fetchall()
        except sqlite3.OperationalError:  # not laid out yet
            return []


def _without_empty(document: dict[str, Any]) -> dict[str, Any]:
    """`[sinks.NAME]` is a table for each sink."""
    sinks = document.pop("sinks")
    document |= {f"sinks.{name}": settings for name, settings in sinks.items()}
    return {name: table for name, table in document.items() if table}


def _install(folder: Path) -> Path:
    """The measuring sink's entry point, for this process alone, as `pip install` would lay it out."""
    site = folder / "site"
    info = site / "kexport_bench-1.0.dist-info"
    if not info.exists():
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kexport-bench\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[kexport]\nbench = tests.bench.sinks\n")
    return site


def report(path: Path) -> dict[str, Any]:
    """What a measuring sink wrote when it was closed."""
    return dict(json.loads(path.read_text()))
