"""Every fault that an alert is for, and states that look like one: each is done and recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.exporter import Memory
from tests.live.alert_site import SMALL, Slow, choosy, down, fill, forget, site, wanted
from tests.live.recording import Recording
from tests.looking import pod, view_of
from tests.test_disk_faults import allow_pages

BEFORE, DURING, AFTER = 15, 30, 20  # minutes


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
