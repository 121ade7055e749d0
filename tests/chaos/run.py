"""One chaos run, from the first server to the verdict."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.evidence import evidence
from tests.chaos.faults import Performance
from tests.chaos.held import caught_up
from tests.chaos.plan import Fault, plan
from tests.chaos.verdict import State, Verdict, canonical, judge
from tests.chaos.world import NAMESPACE, World, untroubled
from tests.chaos.writer import PATHS, Writer, ask, path

LOOK_SECONDS = 0.1
IDLE_SECONDS = 130.0  # a dead connection may take 75 s to be noticed, and a backoff 30 s more
LONGEST_END_SECONDS = 600.0
STOP_SECONDS = 60.0


@dataclass
class Run:
    """What a run is given, and what came of it."""

    seed: int
    minutes: float
    per_minute: float
    per_second: float
    folder: Path
    without: frozenset[str] = frozenset()
    faults: list[Fault] = field(default_factory=list)
    writers: int = 2
    look: Callable[[World], None] = lambda world: None
    """Called again and again while it runs."""
    performed: list[Performance] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)
    chaos_seconds: float = 0.0
    end_seconds: float = 0.0
    restarts: int = 0
    exit_code: int | None = None

    @property
    def log(self) -> Path:
        return self.folder / "kexport" / "kexport.log"

    @property
    def flawless(self) -> bool:
        return self.exit_code == 0 and not any(verdict.flaws for verdict in self.verdicts.values())


def run(
    folder: Path,
    *,
    seed: int,
    minutes: float,
    per_minute: float,
    per_second: float,
    say: Callable[[str], None] = print,
) -> Run:
    """Plan, carry out, judge. Raises when the run itself broke, which is no verdict on kexport."""
    without = untroubled(folder / "trial")
    faults = plan(seed, minutes=minutes, per_minute=per_minute, without=without)
    made = Run(seed, minutes, per_minute, per_second, folder, without, faults)
    carry_out(made, say=say)
    return made


def carry_out(made: Run, *, say: Callable[[str], None]) -> None:
    """Carry out the plan, and judge."""
    say(f"seed {made.seed}: {len(made.faults)} faults planned in {made.minutes:g} minutes")
    for fault in made.faults:
        say(str(fault))
    with World(made.folder, without=made.without) as world:
        writers = [
            Writer(
                world.cluster.api,
                NAMESPACE,
                number=number,
                per_second=made.per_second / made.writers,
                seed=made.seed,
            )
            for number in range(made.writers)
        ]
        for writer in writers:
            writer.start()
        began = time.monotonic()
        _trouble(world, made, writers)
        made.chaos_seconds = time.monotonic() - began
        say(f"{made.chaos_seconds:.0f} s: all faults are over; waiting for the sinks")
        final = _end(world, writers)
        made.end_seconds = _settle(world, made, final)
        made.restarts = world.restarts
        made.exit_code = _stop(world)
        held = {name: each.whole() for name, each in world.held.items()}
        made.verdicts = {name: judge(lines, world.truth.steps, final=final) for name, lines in held.items()}
        for name, verdict in made.verdicts.items():
            made.evidence += evidence(name, verdict, held[name], world)


def _trouble(world: World, made: Run, writers: Sequence[Writer]) -> None:
    """Begin each fault when it is due, and look meanwhile whether the sinks catch up with earlier ones."""
    ending = threading.Event()
    began = time.monotonic()
    due = list(made.faults)
    while due or time.monotonic() - began < made.minutes * 60:
        while due and time.monotonic() - began >= due[0].at:
            made.performed.append(Performance(world, due.pop(0), ending=ending))
        _look(world, made)
        for writer in writers:
            assert writer.error is None, "a writer ended"
        time.sleep(LOOK_SECONDS)
    ending.set()
    deadline = time.monotonic() + 180
    while any(each.is_alive() for each in made.performed):
        assert time.monotonic() < deadline, "a fault doesn't come to its end"
        _look(world, made)
        time.sleep(LOOK_SECONDS)


def _look(world: World, made: Run) -> None:
    world.check()
    world.keep_running()
    made.look(world)
    for each in made.performed:
        if each.error:
            raise AssertionError(f"{each.fault} could not be carried out") from each.error
        if each.lifted and each.caught_up_seconds is None and caught_up(world.held[each.sink], each.wanted):
            each.caught_up_seconds = time.monotonic() - each.lifted


def _end(world: World, writers: Sequence[Writer]) -> State:
    """Stop writing, wait until etcd is at rest and known, and return what the cluster has then."""
    for writer in writers:
        writer.finish()
    # After an outage they come up to a minute late, and would change what is judged by.
    world.cluster.controllers.stop()
    api, truth = world.cluster.api, world.truth
    quiet, changes = time.monotonic(), truth.changes
    deadline = quiet + 120
    while time.monotonic() - quiet < 5:  # what was asked of an API server last may be done late
        assert time.monotonic() < deadline, "the cluster doesn't come to rest"
        if truth.changes != changes:
            quiet, changes = time.monotonic(), truth.changes
        time.sleep(LOOK_SECONDS)
    _, last = ask(api, "POST", path("configmaps", NAMESPACE), {"metadata": {"name": "end-of-truth"}})
    truth.reach(int(json.loads(last)["metadata"]["resourceVersion"]))
    final: State = {}
    for resource in PATHS:
        for item in json.loads(ask(api, "GET", path(resource, NAMESPACE))[1])["items"]:
            final[resource, f"{NAMESPACE}/{item['metadata']['name']}"] = canonical(item)
    return final


def _settle(world: World, made: Run, final: State) -> float:
    """Seconds until every sink has everything. Slow is not lost: it waits as long as something comes."""
    began = moved = time.monotonic()
    lines = 0
    while time.monotonic() - moved < IDLE_SECONDS and time.monotonic() - began < LONGEST_END_SECONDS:
        _look(world, made)
        now = sum(len(held.lines) for held in world.held.values())
        if now != lines:
            lines, moved = now, time.monotonic()
        elif _complete(world, final):
            break
        time.sleep(1)
    return time.monotonic() - began


def _complete(world: World, final: State) -> bool:
    newest: Mapping[str, int] = world.truth.newest
    if not all(caught_up(held, dict(newest)) for held in world.held.values()):
        return False
    verdicts = [judge(held.lines, world.truth.steps, final=final) for held in world.held.values()]
    return not any(verdict.count("lost") or verdict.count("other state") for verdict in verdicts)


def _stop(world: World) -> int | None:
    """As the kubelet does, with SIGTERM; the exit code, or None if it doesn't end."""
    with world.locks["kexport"]:
        world.wanted.clear()
        process = world.kexport._process
        assert process
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return None
