"""One kexport with four sinks on real far ends: all get the same, and none feels another's outage."""

from __future__ import annotations

import json
import os
import random
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.live.delays import Phase, first_seen, table, within
from tests.live.exporting import Process, wait_until
from tests.live.far_end import FarEnd
from tests.live.far_ends import Folder, Lake, Records, Topics
from tests.live.synced import all_synced
from tests.live.truth import PATHS, History, Verdict, Witness, judge
from tests.live.writer import Writer
from tests.testbed import Cluster, Collector, Kafka, S3Server

CHANGES = 5000
STEADY_PER_SECOND = 50
OUTAGE_SECONDS = float(os.environ.get("KEXPORT_LIVE_OUTAGE_SECONDS", "60"))
UNDISTURBED_SECONDS = min(20.0, OUTAGE_SECONDS / 3)
"""The other sinks have each change so soon, though the machine be busy: long before an outage's end."""
USUAL_SECONDS = 5.0
"""And most of them so soon."""


class Export:
    """kexport from a namespace to all far ends, and a witness of what happens in that namespace."""

    def __init__(self, folder: Path, cluster: Cluster, name: str, far_ends: Sequence[FarEnd]) -> None:
        self.cluster = cluster
        self.name = name
        self.far_ends = far_ends
        self._witness: Witness | None = None
        self._closing = ExitStack()
        self.process = Process(
            folder,
            {
                "cluster": {"name": "live", "kubeconfig": str(cluster.api.kubeconfig())},
                "journal": {"path": str(folder / "state")},
                "http": {"listen": ""},
                "resources": [{"resource": resource, "namespaces": [name]} for resource in PATHS],
                "sinks": {far_end.sink: far_end.settings() for far_end in far_ends},
            },
        )

    def begin(self) -> None:
        """Return when every sink has the first listing of every stream."""
        self._witness = self._closing.enter_context(Witness(self.cluster.api, self.name))
        self.process.start()
        for far_end in self.far_ends:
            if isinstance(far_end, Topics):
                wait_until(lambda end=far_end: end.assign() == len(PATHS), seconds=60, what="four topics")  # type: ignore[misc]
            far_end.start()
        wait_until(lambda: all(map(_synced, self.far_ends)), seconds=120, what=f"sync\n{self.process.tail()}")

    def truth(self) -> History:
        assert self._witness
        return self._witness.history()

    def mark(self, name: str) -> bytes:
        """Make an object of this name; what to look for in its event."""
        path = PATHS["configmaps"].format(self.name)
        status, answer = self.cluster.api.request("POST", path, {"metadata": {"name": name}})
        assert status == 201, answer
        return f'"subject":"{self.name}/{name}"'.encode()

    def wait_for(self, mark: bytes, far_ends: Sequence[FarEnd], *, seconds: float) -> None:
        """Until all these have it."""
        began = time.monotonic()
        for far_end in far_ends:
            wait_until(
                lambda end=far_end: end.holds(mark),  # type: ignore[misc]
                seconds=seconds - (time.monotonic() - began),
                what=f"{mark!r} arrives in {far_end.sink}\n{self.process.tail()}",
            )

    def wait_for_all(self, name: str) -> None:
        """Until every sink has all that was observed before this.

        The objects of one S3 batch are stored side by side, so the first mark may be there before the rest
        of its batch. The second is made when the first is there: its batch comes behind all of that one.
        """
        for mark in (f"{name}-1", f"{name}-2"):
            self.wait_for(self.mark(mark), self.far_ends, seconds=120)

    def close(self) -> None:
        self.process.end()
        self._closing.close()
        for far_end in self.far_ends:
            far_end.close()


def _synced(far_end: FarEnd) -> bool:
    return all_synced(far_end.lines(), len(PATHS))


@pytest.fixture
def export(tmp_path: Path, cluster: Cluster, s3: S3Server, collector: Collector) -> Iterator[Export]:
    name = f"sinks-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        kafka = stack.enter_context(Kafka(tmp_path / "kafka", properties={"num.partitions": "3"}))
        far_ends = (Folder(tmp_path / "out"), Topics(kafka, name), Lake(s3, name), Records(collector))
        export = Export(tmp_path, cluster, name, far_ends)
        stack.callback(export.close)
        yield export


@pytest.mark.timeout(1200)
def test_four_sinks_get_the_same_and_none_feels_that_another_is_away(export: Export) -> None:
    seed = random.randrange(1 << 30)
    print(f"\nseed {seed}")
    writer = Writer(export.cluster.api, export.name, changes=CHANGES, per_second=200, seed=seed)
    writer.prepare()
    writer.wait_until_quiet()
    export.begin()
    phases = [_all_changes_arrive(export, writer)]
    steady = writer.successor(changes=1_000_000, per_second=STEADY_PER_SECOND, seed=seed + 1)
    with _at_work(steady):
        phases.append(_with_all(export))
        phases += [_without(export, far_end) for far_end in export.far_ends]
    steady.wait_until_quiet()
    export.wait_for_all("the-end")
    assert export.process.stop() == 0
    print(table(export.far_ends, phases))
    assert b"sink started anew" not in export.process.log.read_bytes(), "nobody changed the configuration"
    _judge(export)
    for phase in phases[2:]:
        _assert_undisturbed(export, phase)


def _all_changes_arrive(export: Export, writer: Writer) -> Phase:
    """Phase one: each sink holds exactly what happened, and all hold the same."""
    began = time.time()
    writer.start()
    writer.finish()
    writer.wait_until_quiet()
    export.wait_for_all("all-made")
    truth = export.truth()
    held = [Counter(set(far_end.lines())) for far_end in export.far_ends]
    for far_end in export.far_ends:
        verdict = verdict_on(far_end, far_end.lines(), truth)
        print(f"{far_end.sink:6} first {verdict}")
        assert verdict.flawless, verdict
        assert verdict.changes >= CHANGES
    assert all(each == held[0] for each in held)
    return Phase("5,000 changes", began, time.time())


@contextmanager
def _at_work(writer: Writer) -> Iterator[None]:
    writer.start()
    try:
        yield
    finally:
        writer.stop()
        writer.finish()


def _with_all(export: Export) -> Phase:
    """For comparison: nobody is down."""
    began = time.time()
    time.sleep(OUTAGE_SECONDS / 6)
    ended = time.time()
    export.wait_for(export.mark("before"), export.far_ends, seconds=UNDISTURBED_SECONDS)
    return Phase("nobody down", began, ended)


def _without(export: Export, away: FarEnd) -> Phase:
    """One far end is down; a change made meanwhile reaches the others while it is, and it afterwards."""
    others = [far_end for far_end in export.far_ends if far_end is not away]
    logged = len(export.process.log.read_bytes())
    began = time.time()
    away.down()
    down = time.time()
    # What was under way to it, or to the thread that notes it, arrived before.
    wait_until(lambda: away.found_nothing_since(down), seconds=60, what=f"{away.sink} has all that it got")
    gone = time.time()
    time.sleep(max(0.0, began + OUTAGE_SECONDS / 2 - time.time()))
    export.wait_for(export.mark(f"without-{away.sink}"), others, seconds=UNDISTURBED_SECONDS)
    time.sleep(max(0.0, began + OUTAGE_SECONDS - time.time()))
    ended = time.time()
    said = export.process.log.read_bytes()[logged:].decode().splitlines()
    assert any("WARNING" in line and f"sink={away.sink}" in line for line in said), said
    away.up()
    back = time.time()
    export.wait_for(export.mark(f"{away.sink}-is-back"), [away], seconds=120)
    print(f"{away.sink}: up after {back - ended:.1f} s, has everything {time.time() - back:.1f} s later")
    return Phase(f"{away.sink} down", began, ended, away.sink, gone)


def verdict_on(far_end: FarEnd, lines: Sequence[bytes], truth: History) -> Verdict:
    return judge(lines, truth, skip=("snapshot",), by_uid=far_end.by_uid)


def _judge(export: Export) -> None:
    """What is read back at the end, with other tools, is what was seen to arrive, and is what happened."""
    truth = export.truth()
    for far_end in export.far_ends:
        lines = far_end.read_back()
        verdict = verdict_on(far_end, lines, truth)
        print(f"{far_end.sink:6} {len(lines)} events read back; {verdict}")
        assert verdict.flawless, verdict
        assert Counter(lines) == Counter(far_end.lines())
        assert verdict_on(far_end, far_end.lines(), truth).flawless
        assert not any(json.loads(line)["type"].endswith(".gap") for line in lines)


def _assert_undisturbed(export: Export, phase: Phase) -> None:
    """In an outage its own sink got nothing, and the others everything at once."""
    for far_end in export.far_ends:
        seen = first_seen(far_end.arrivals)
        if far_end.sink == phase.down:
            assert not [each for each in seen if phase.gone < each.arrived < phase.end], phase
            continue
        made = [each for each in within(seen, phase) if each.observed < phase.end - UNDISTURBED_SECONDS]
        assert len(made) > (phase.end - phase.begin - UNDISTURBED_SECONDS) * STEADY_PER_SECOND / 10
        assert statistics.median(each.delay for each in made) < USUAL_SECONDS, (phase.name, far_end.sink)
        late = [each.delay for each in made if each.delay > UNDISTURBED_SECONDS]
        assert not late, (
            f"{phase.name}: {len(late)} changes reached {far_end.sink} late, up to {max(late):.1f} s"
        )
