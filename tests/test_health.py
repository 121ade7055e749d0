"""Ready means: nothing is missing and nothing is late; and the report says what is, without secrets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from kexport import health
from kexport.change import StreamKey
from kexport.config import parse
from kexport.errors import TransientError
from kexport.journal import Journal
from kexport.tables import JournalConfig
from kexport.telemetry import LaneStats, Stats, StreamStats
from kexport.testing import make_event
from kexport.view import View
from tests.exporter import Memory
from tests.looking import configuration, looking, pod

PODS = StreamKey("pods/*")
LONG_AGO = monotonic() - 4000


def well() -> Stats:
    return Stats(
        {PODS: StreamStats(state="watching", synced=True)}, {"memory": LaneStats(state="delivering")}
    )


def failed(view: View) -> list[str]:
    return [f"{check.what}: {check.detail}" for check in health.checks(view) if not check.ok]


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    journal = await Journal.open(JournalConfig(path=":memory:"), lanes=["memory"])
    yield journal
    await journal.close()


def view(stats: Stats, journal: Journal, tmp_path: Path, **http: Any) -> View:
    config = parse(configuration(tmp_path, "http://127.0.0.1:1", **http), {"memory": Memory().type()})
    return View(stats, journal, lambda: config)


async def test_all_is_well(journal, tmp_path):
    found = health.checks(view(well(), journal, tmp_path))
    assert health.ready(found)
    assert health.report("readyz", found) == (
        "[+]journal ok\n[+]stream pods/* ok\n[+]sink memory ok\n[+]config ok\nreadyz check passed\n"
    )


async def test_before_the_api_server_answered_it_is_not_ready(journal, tmp_path):
    what = failed(view(Stats(), journal, tmp_path))
    assert [each.partition(":")[0] for each in what] == ["streams", "sinks"]


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (StreamStats(state="listing"), "not synced yet, listing"),
        (StreamStats(state="forbidden", error="no list", synced=True), "forbidden: no list"),
        (
            StreamStats(state="disconnected", error="refused", synced=True, heard=LONG_AGO),
            "nothing heard for [0-9]+ s, disconnected: refused",
        ),
    ],
)
async def test_a_stream_that_is_not_ready(journal, tmp_path, stream, why):
    stats = well()
    stats.streams[PODS] = stream
    (told,) = failed(view(stats, journal, tmp_path))
    assert re.fullmatch(rf"stream pods/\*: {why}", told)


@pytest.mark.parametrize(
    "stream",
    [
        # Quiet for long, and nothing wrong: without changes and bookmarks nothing is heard.
        {"state": "watching", "synced": True, "heard": LONG_AGO},
        {"state": "disconnected", "error": "refused", "synced": True},
    ],
)
async def test_a_stream_that_is_quiet_or_only_just_interrupted_is_ready(journal, tmp_path, stream):
    stats = well()
    stats.streams[PODS] = StreamStats(**stream)
    assert failed(view(stats, journal, tmp_path)) == []


async def test_a_forbidden_stream_can_be_ignored_and_is_still_said(journal, tmp_path):
    stats = well()
    stats.streams[PODS] = StreamStats(state="forbidden", error="no list")
    found = health.checks(view(stats, journal, tmp_path, ready_ignore_forbidden=True))
    assert health.ready(found)
    assert "[+]stream pods/* ok: forbidden: no list (ignored)\n" in health.report("readyz", found)


async def test_a_sink_is_late_beyond_the_limit_only(journal, tmp_path):
    stats = well()
    stats.lanes["memory"] = LaneStats(state="retrying", error="far end full")
    journal.tally.take(PODS, [make_event(1)])
    assert failed(view(stats, journal, tmp_path)) == []
    # make_event's time does not count: it was observed just now. So the limit comes down to it.
    (late,) = failed(view(stats, journal, tmp_path, ready_lag_seconds=1e-9))
    assert re.fullmatch(r"sink memory: lag \d+ s, 1 events, retrying: far end full", late)
    stats.lanes["memory"].cursor = 1
    assert failed(view(stats, journal, tmp_path, ready_lag_seconds=1e-9)) == []


async def test_a_sink_that_does_not_open_is_not_ready(journal, tmp_path):
    stats = well()
    stats.lanes["memory"] = LaneStats(error="no route")
    (why,) = failed(view(stats, journal, tmp_path))
    assert why.startswith("sink memory: not open yet")


async def test_a_journal_that_cannot_be_written_is_not_ready(journal, tmp_path):
    journal._disk.failing = "disk I/O error"
    assert failed(view(well(), journal, tmp_path)) == ["journal: it cannot be written: disk I/O error"]


async def test_a_full_journal_is_not_ready(journal, tmp_path):
    journal.retention.bytes = 8 << 30
    (why,) = failed(view(well(), journal, tmp_path))
    assert why.startswith("journal: it is full")
    journal.retention.bytes = 0


async def test_a_resource_that_is_not_served_yet_and_a_refused_reload_are_said_and_ready(journal, tmp_path):
    stats = well()
    stats.waiting, stats.reload_error = ["widgets.example.com"], "sinks.x: unknown key\n[+]stream faked ok"
    found = health.checks(view(stats, journal, tmp_path))
    assert health.ready(found)
    report = health.report("readyz", found).splitlines()
    assert "[+]resource widgets.example.com ok: the server does not have it; waiting for it" in report
    assert "[+]stream faked ok" not in report  # an error is one line, whatever it holds


async def test_over_http_while_a_sink_fails_and_recovers(tmp_path):
    memory = Memory()
    async with looking(tmp_path, memory=memory, ready_lag_seconds=0.05) as look:
        answer = await look.get("/readyz")
        assert (answer.status, answer.text) == (200, "ok\n")

        def down(_events):
            raise TransientError("the far end is full")

        memory.fail = down
        look.cluster.create(pod("second"))
        await look.exporter.look(
            lambda: any("the far end is full" in each for each in failed(look.view)),
            seconds=20,
            what=lambda: str(look.view.stats),
        )
        answer = await look.get("/readyz")
        assert answer.status == 503
        assert "[-]sink memory failed: lag" in answer.text
        assert "retrying: the far end is full" in answer.text
        assert answer.text.endswith("readyz check failed\n")
        assert (await look.get("/livez")).status == 200
        memory.fail = lambda _events: None
        await look.exporter.look(
            lambda: not failed(look.view), seconds=20, what=lambda: str(failed(look.view))
        )
        answer = await look.get("/readyz?verbose")
        assert answer.status == 200
        assert "[+]stream pods/* ok\n" in answer.text


async def test_over_http_while_the_api_server_forbids_a_stream(tmp_path):
    async with looking(tmp_path) as look:
        look.cluster.deny("watch", "pods")
        look.cluster.hang_up()
        await look.exporter.look(
            lambda: bool(failed(look.view)), seconds=20, what=lambda: str(look.view.stats)
        )
        answer = await look.get("/readyz")
        assert answer.status == 503
        assert "[-]stream pods/* failed: forbidden: " in answer.text


async def test_livez_has_a_verbose_form(tmp_path):
    async with looking(tmp_path) as look:
        assert (await look.get("/livez")).text == "ok\n"
        assert (await look.get("/livez?verbose")).text == "[+]ping ok\nlivez check passed\n"
