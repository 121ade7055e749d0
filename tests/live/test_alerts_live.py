"""The chart's alerts on recorded metrics: each fires in the fault that it is for, in no other, nor for ever.

The faults are real, done to an engine on FakeCluster whose /metrics are scraped; tests/live/recording.py says
how seconds become minutes. The rules are what helm makes of the chart, and promtool evaluates them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import yaml
from typing_extensions import override

from kexport.errors import RejectedError, TransientError
from kexport.event import Event
from kexport.tables import HttpConfig
from kexport.testing import FakeCluster
from kexport.web import Web
from tests.exporter import Exporter, Memory, toml_of
from tests.live.recording import Recording
from tests.looking import QUICK, pod, view_of
from tests.test_disk_faults import allow_pages
from tests.testbed.helm import CHART, Helm
from tests.testbed.prometheus import Promtool

BEFORE, DURING, AFTER = 15, 30, 20  # minutes
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
EVER = 'count by (alertname) (count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[%dm])))'
SECONDS = 30.0
AT_ONCE = 6


class Scenario(NamedTuple):
    """What is done and recorded, which alerts must fire, and how many minutes it is well around it."""

    play: Callable[[Path], Awaitable[Recording]]
    alerts: tuple[str, ...]
    before: int
    after: int


SCENARIOS: dict[str, Scenario] = {}


def fires(*alerts: str, before: int = BEFORE, after: int = AFTER) -> Callable[..., Any]:
    def add(play: Callable[[Path], Awaitable[Recording]]) -> Callable[[Path], Awaitable[Recording]]:
        SCENARIOS[play.__name__] = Scenario(play, alerts, before, after)
        return play

    return add


class Site(NamedTuple):
    cluster: FakeCluster
    exporter: Exporter
    memory: Memory
    recording: Recording
    document: dict[str, Any]

    @property
    def stream(self):
        return self.exporter.engine.stats.streams["pods/*"]

    @property
    def lane(self):
        return self.exporter.engine.stats.lanes["memory"]

    @property
    def journal(self):
        return self.exporter.engine._journal

    async def wait(self, condition, what: str) -> None:
        await self.exporter.look(
            condition, seconds=SECONDS, what=lambda: f"{what}; {self.stream} {self.lane}"
        )

    async def changes(self) -> None:
        """A change comes, and is delivered: what goes on where all is well."""
        self.cluster.create(pod(f"pod-{random.getrandbits(60):x}"))
        newest = self.journal.tally.newest
        await self.wait(lambda: self.journal.tally.newest > newest, "no event came")
        await self.wait(lambda: self.journal.tally.lag(self.lane.cursor)[0] == 0, "it is not delivered")
        await self.watches()

    async def watches(self) -> None:
        """The watch is well, whatever else is not."""
        before = self.stream.heard

        def heard() -> bool:
            self.cluster.heartbeat()
            self.cluster.bookmark()  # the server drops one for a watch that is busy
            return bool(self.stream.heard > before)

        await self.wait(heard, "nothing is heard")

    async def settled(self) -> None:
        """All that was observed is on disk, and what had to give way has."""
        await self.journal.flush()
        lag, rejects = self.journal.tally.lag, self.exporter.engine.stats.lanes["rejects"]
        await self.wait(lambda: not self.journal.retention.over, "it gives nothing up")
        await self.wait(lambda: lag(rejects.cursor)[0] == 0, "the other sink is behind")

    async def nothing(self) -> None:
        pass

    async def well(self, minutes: int) -> None:
        await self.recording.phase(minutes, self.changes)


@asynccontextmanager
async def site(folder: Path, *, memory: Memory | None = None, **changes: Any) -> AsyncIterator[Site]:
    """An engine with a sink, and one for what that refuses; `changes` are tables of the configuration."""
    memory = memory or Memory()
    document: dict[str, Any] = {
        "cluster": {"name": "test"},
        "journal": {"path": str(folder / "state")},
        "http": {"listen": ""},
        "resources": [{"resource": "pods"}],
        "sinks": {
            "memory": {"type": "memory", "retry": QUICK, "rejects_to": "rejects"},
            "rejects": {"type": "rejects", "retry": QUICK},
        },
    }
    for table, keys in changes.items():
        document[table] = {**document[table], **keys}
    async with FakeCluster() as cluster:
        document["cluster"]["url"] = cluster.url
        cluster.create(pod("first"))
        rejects = Memory().type("rejects")
        async with Exporter(lambda: toml_of(document), memory, rejects=rejects) as exporter:
            stats = exporter.engine.stats
            await exporter.look(
                lambda: "pods/*" in stats.streams and cluster.watch_count == 1,
                seconds=SECONDS,
                what=lambda: "no watch is open",
            )
            async with (
                Web(HttpConfig(listen="127.0.0.1:0"), view_of(exporter)) as web,
                aiohttp.ClientSession() as session,
            ):
                yield Site(cluster, exporter, memory, Recording(session, web.url), document)
                memory.fail = lambda _events: None


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording | BaseException]:
    """All scenarios, some at a time: each is mostly waiting."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def play(name: str) -> Recording:
        async with slots:
            return await SCENARIOS[name].play(tmp_path_factory.mktemp(name))

    async def all_of_them() -> list[Recording | BaseException]:
        return await asyncio.gather(*map(play, SCENARIOS), return_exceptions=True)

    return dict(zip(SCENARIOS, asyncio.run(all_of_them()), strict=True))


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the Prometheus operator would give Prometheus."""
    folder = tmp_path_factory.mktemp("chart")
    values = folder / "values.yaml"
    values.write_text("metrics: {prometheusRule: {enabled: true}}")
    text = Helm(folder).run(
        *("template", "kexport", CHART, "--namespace=monitoring", "--values"),
        *(CHART / "ci" / "least-values.yaml", "--values", values),
    )
    (found,) = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "PrometheusRule"]
    spec: dict[str, Any] = found["spec"]
    return spec


@pytest.fixture
def promtool(tmp_path: Path, rules: dict[str, Any]) -> Promtool:
    folder = tmp_path / "promtool"
    folder.mkdir()
    return Promtool(folder, rules)


def down(_events: Sequence[Event]) -> None:
    raise TransientError("the broker is away")


# -- the faults -------------------------------------------------------------------------------------------


@fires(before=0)
async def where_all_is_well_none_fires(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE + DURING + AFTER)
        return here.recording


@fires("KexportDown")
async def kexport_is_gone(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE)
        here.recording.gone(DURING)
        await here.well(AFTER)
        return here.recording


@fires("KexportSinkDown")
async def a_sink_is_down(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE)
        here.memory.fail = down
        here.cluster.create(pod("stuck"))
        await here.wait(lambda: here.lane.retries > 0, "the sink does not fail")
        await here.recording.phase(DURING, here.watches)
        here.memory.fail = lambda _events: None
        await here.well(AFTER)
        return here.recording


@fires("KexportSinkDown", before=0)
async def a_sink_was_down_when_kexport_began(folder: Path) -> Recording:
    memory = Memory()
    memory.fail = down
    async with site(folder, memory=memory) as here:
        await here.wait(lambda: here.lane.retries > 0, "the sink does not fail")
        assert here.lane.succeeded == 0
        await here.recording.phase(DURING, here.watches)
        memory.fail = lambda _events: None
        await here.well(AFTER)
        return here.recording


class Slow(Memory):
    """Takes twenty batches a second."""

    @override
    async def take(self, events: Sequence[Event]) -> None:
        await asyncio.sleep(0.05)
        await super().take(events)


@fires("KexportLag")
async def a_sink_is_too_slow(folder: Path) -> Recording:
    memory = Slow()
    one = {"type": "memory", "batch": {"max_events": 1}, "rejects_to": "rejects"}
    async with site(folder, memory=memory, sinks={"memory": one}) as here:
        await here.well(BEFORE)

        async def more() -> None:
            for number in range(100):
                here.cluster.create(pod(f"more-{len(memory.events)}-{number}"))
            behind = here.journal.tally
            await here.wait(lambda: behind.lag(here.lane.cursor)[0] > 80, "it is not behind")
            await here.watches()

        await here.recording.phase(DURING, more)
        await here.well(AFTER)
        return here.recording


def choosy(events: Sequence[Event]) -> None:
    for number, event in enumerate(events):
        if event.attributes.objname.startswith("bad"):
            raise RejectedError("too big", written=number)


@fires("KexportRejected")
async def a_sink_refuses_events(folder: Path) -> Recording:
    memory = Memory()
    memory.fail = choosy
    async with site(folder, memory=memory) as here:
        await here.well(BEFORE)

        async def bad() -> None:
            before = here.lane.rejected
            here.cluster.create(pod(f"bad-{before}"))
            await here.wait(lambda: here.lane.rejected > before, "it is not rejected")
            await here.changes()

        await here.recording.phase(DURING, bad)
        await here.well(AFTER)
        return here.recording


@fires("KexportRejected", before=0)
async def a_sink_refused_an_event_before_anybody_looked(folder: Path) -> Recording:
    memory = Memory()
    memory.fail = choosy
    async with site(folder, memory=memory) as here:
        here.cluster.create(pod("bad"))
        await here.wait(lambda: here.lane.rejected == 1, "it is not rejected")
        await here.well(DURING)
        return here.recording


async def forget(here: Site) -> None:
    """The API server forgets while nobody watches, and what happened meanwhile has to be found out."""
    synced = sum(event.change == "synced" for event in here.exporter.events)
    await here.cluster.stop_listening()
    here.cluster.delete("pods", "default", "first", grace_seconds=0)
    here.cluster.forget()
    await here.cluster.listen()
    await here.exporter.synced(synced + 1)
    await here.wait(lambda: here.stream.state == "watching", "it does not watch again")


@fires("KexportGap")
async def history_was_lost(folder: Path) -> Recording:
    async with site(folder, cluster={"recover_max_requests": 0}) as here:
        await here.well(BEFORE)
        await forget(here)
        await here.well(DURING)
        return here.recording


@fires()
async def history_was_read_back(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE)
        await forget(here)
        gap = here.journal.tally.recent_gaps[-1]
        assert gap["complete"], gap
        await here.well(DURING)
        return here.recording


@fires("KexportWatchStalled")
async def a_watch_is_silent(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE)
        with here.cluster.stall():
            await here.recording.phase(DURING, here.nothing)
        await here.well(AFTER)
        return here.recording


@fires("KexportWatchStalled")
async def the_api_server_is_away(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE)
        await here.cluster.stop_listening()
        await here.wait(lambda: bool(here.stream.error), "the stream is well")
        await here.recording.phase(DURING, here.nothing)
        await here.cluster.listen()
        await here.wait(lambda: here.stream.state == "watching", "it does not watch again")
        await here.well(AFTER)
        return here.recording


@fires("KexportForbidden", after=0)
async def a_permission_is_lost(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE)
        here.cluster.deny("watch", "pods")
        here.cluster.deny("list", "pods")
        here.cluster.hang_up()
        await here.wait(lambda: here.stream.state == "forbidden", "it is not forbidden")
        await here.recording.phase(DURING, here.nothing)
        return here.recording


async def fill(here: Site, enough) -> None:
    """Objects that don't compress, until there is enough of them."""
    noise, number = random.Random(1), 0
    while not enough():
        number += 1
        annotations = {"noise": noise.randbytes(20_000).hex()}
        here.cluster.create(pod(f"big-{number}", annotations=annotations))
        await asyncio.sleep(0.01)
        assert number < 500


def wanted(here: Site) -> float:
    """How much of the journal's room is taken by what the sink has not got, by the number of events."""
    retention, tally = here.journal.retention, here.journal.tally
    share: float = tally.lag(here.lane.cursor)[0] / max(1, tally.newest - retention.first)
    return float(retention.bytes / retention.max_bytes * share)


SMALL = {"max_bytes": 1 << 20}


@fires("KexportSinkDown", "KexportJournalFilling")
async def the_journal_fills_behind_a_sink_that_is_down(folder: Path) -> Recording:
    async with site(folder, journal=SMALL) as here:
        await here.well(BEFORE)
        here.memory.fail = down
        await fill(here, lambda: wanted(here) > 0.85)
        await here.settled()
        await here.recording.phase(DURING, here.watches)
        assert not here.journal.full
        here.memory.fail = lambda _events: None
        await here.well(AFTER)
        return here.recording


@fires("KexportSinkDown", "KexportJournalFilling", "KexportJournalFailing")
async def the_journal_is_full_and_watching_paused(folder: Path) -> Recording:
    async with site(folder, journal=SMALL) as here:
        await here.well(BEFORE)
        here.memory.fail = down
        await fill(here, lambda: here.journal.full)
        here.cluster.create(pod("one-more"))
        await here.wait(lambda: here.stream.state == "paused", "it does not pause")
        await here.recording.phase(DURING, here.nothing)
        here.memory.fail = lambda _events: None
        await here.wait(lambda: here.stream.state == "watching", "it does not watch again")
        await here.well(AFTER)
        return here.recording


@fires("KexportSinkDown", "KexportJournalFilling", "KexportDropped")
async def the_oldest_events_are_dropped(folder: Path) -> Recording:
    async with site(folder, journal={**SMALL, "when_full": "drop_oldest"}) as here:
        await here.well(BEFORE)
        here.memory.fail = down
        # Beyond what the sink holds already; and a chunk that went leaves room at first.
        await fill(here, lambda: view_of(here.exporter).dropped("memory") > 0 and wanted(here) > 0.85)
        await here.settled()
        assert wanted(here) > 0.8
        await here.recording.phase(DURING, here.watches)
        here.memory.fail = lambda _events: None
        await here.well(AFTER)
        return here.recording


@fires()
async def a_journal_that_is_full_of_what_everybody_has_is_well(folder: Path) -> Recording:
    async with site(folder, journal=SMALL) as here:
        await here.well(BEFORE)
        await fill(here, lambda: here.journal.retention.bytes > 0.9 * (1 << 20))
        await here.wait(lambda: wanted(here) == 0, "the sink is behind")
        assert here.journal.retention.bytes > 0.8 * (1 << 20)
        await here.well(DURING)
        return here.recording


@fires("KexportJournalFailing")
async def the_disk_takes_nothing_more(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE)
        await allow_pages(here.journal, 0)
        await fill(here, lambda: bool(here.journal.failing))
        here.cluster.create(pod("one-more"))
        await here.wait(lambda: here.stream.state == "paused", "it does not pause")
        await here.recording.phase(DURING, here.nothing)
        await allow_pages(here.journal, 100_000)
        await here.wait(lambda: not here.journal.failing, "it cannot be written")
        await here.wait(lambda: here.stream.state == "watching", "it does not watch again")
        await here.well(AFTER)
        return here.recording


@fires("KexportConfigRefused")
async def a_configuration_is_refused(folder: Path) -> Recording:
    async with site(folder) as here:
        await here.well(BEFORE)
        here.document["resorces"] = here.document["resources"]
        here.exporter.engine.reload()
        stats = here.exporter.engine.stats
        await here.wait(lambda: bool(stats.reload_error), "it is taken")
        await here.recording.phase(DURING, here.changes)
        del here.document["resorces"]
        here.exporter.engine.reload()
        await here.wait(lambda: not stats.reload_error, "it is refused")
        await here.well(AFTER)
        return here.recording


# -- the verdict ------------------------------------------------------------------------------------------


def test_the_rules_are_sound(promtool: Promtool, rules: dict[str, Any]) -> None:
    (group,) = rules["groups"]
    assert f"{len(group['rules'])} rules found" in promtool.check()


def test_every_alert_has_a_fault_that_it_is_for(rules: dict[str, Any]) -> None:
    (group,) = rules["groups"]
    fired = {alert for scenario in SCENARIOS.values() for alert in scenario.alerts}
    assert fired == {rule["alert"] for rule in group["rules"]}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_alerts_of_a_fault_fire_and_no_others(
    promtool: Promtool, recordings: dict[str, Recording | BaseException], name: str
) -> None:
    recording, scenario = recordings[name], SCENARIOS[name]
    if isinstance(recording, BaseException):
        raise recording
    whole = recording.minutes
    expected = dict.fromkeys(scenario.alerts, 1.0)
    expressions: list[tuple[int, str, dict[str, float]]] = [(whole - 1, EVER % whole, expected)]
    if scenario.before:
        expressions.append((scenario.before - 1, EVER % scenario.before, {}))
    if scenario.after:
        expressions.append((whole - 1, FIRING, {}))
    promtool.test(recording.series(), expressions)
