"""Scenarios of the exporter's own process: crashes, credentials, clocks, a second one, its sinks.

The number in a test's name is the scenario's in RELIABILITY.md.
"""

from __future__ import annotations

import json
import signal
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml

from kexport.backoff import Backoff
from kexport.errors import KexportError, RejectedError, TransientError
from kexport.event import Event
from kexport.testing.cluster import FakeCluster
from kexport.testing.raw import forward, serving
from tests.commandline import ROOT, CommandLine, read_until
from tests.exporter import Exporter, Memory, toml, toml_of
from tests.following import stats_of, watching
from tests.objects import config, configmap, eventually, seen

TLS = ROOT / "tests" / "tls"


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr("kexport.informer.Backoff", lambda: Backoff(0.01, 0.05))
    async with FakeCluster(fresh_wait_seconds=0.05) as cluster:
        yield cluster


async def test_scenario_4_of_a_listing_that_a_crash_broke_off_nothing_is_told(
    fake: FakeCluster, tmp_path: Path
) -> None:
    fake.watch_list = False
    memory = Memory()
    for number in range(600):
        configmap(fake, f"c{number}")

    async def crash() -> None:
        async with Exporter(config(fake, tmp_path, "configmaps"), memory):
            await eventually(lambda: any("continue=" in path for _, path in fake.requests))
            raise ZeroDivisionError

    with fake.stall("continue="), pytest.raises(ZeroDivisionError):
        await crash()
    assert memory.events == []
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await exporter.synced()
    assert len({event.id for event in memory.events}) == len(memory.events) == 601


async def test_scenario_13_a_dead_sink_does_not_hold_up_the_watch(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    dead = True

    def fail(_events: Sequence[Event]) -> None:
        if dead:
            raise TransientError("away")

    memory.fail = fail
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await eventually(lambda: bool(exporter.engine.stats.streams) and stats_of(exporter).watches == 1)
        for number in range(500):
            configmap(fake, f"c{number:03d}")
        await eventually(lambda: stats_of(exporter).version == str(fake.revision))
        assert memory.events == []
        assert stats_of(exporter).watches == 1
        dead = False
        await exporter.until(lambda events: len(events) == 501)
    assert [name for _, name in seen(memory)[1:]] == [f"c{number:03d}" for number in range(500)]


async def test_scenario_24_a_token_that_was_replaced_is_loaded_anew(tmp_path: Path) -> None:
    memory = Memory()
    async with FakeCluster(token="old") as fake:
        text = toml(tmp_path, {"kubeconfig": str(fake.kubeconfig(tmp_path))}, [{"resource": "configmaps"}])
        async with Exporter(text, memory) as exporter:
            await watching(exporter)
            fake.token = "new"
            configmap(fake, "open")  # the open watch is not asked for its token
            await exporter.until(lambda _events: ("added", "open") in seen(memory))
            fake.hang_up()
            configmap(fake, "later")
            await eventually(lambda: stats_of(exporter).state == "unauthorized")
            fake.kubeconfig(tmp_path)
            await exporter.until(lambda _events: ("added", "later") in seen(memory))
            assert stats_of(exporter).snapshots == 1
    assert not {"deleted", "gap"} & {event.change for event in memory.events}


async def test_scenario_25_a_certificate_authority_that_was_replaced_is_loaded_anew(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexport.transport.CREDENTIAL_CHECK_SECONDS", 0.0)
    memory = Memory()
    authority = tmp_path / "ca.crt"
    authority.write_bytes((TLS / "untrusted.crt").read_bytes())
    async with over_tls(fake) as port:
        text = toml(
            tmp_path, {"kubeconfig": str(trusting(tmp_path, port, authority))}, [{"resource": "configmaps"}]
        )
        async with Exporter(text, memory) as exporter:
            await watching(exporter)
            authority.write_bytes(Path(certifi.where()).read_bytes())  # any others: none of them made it
            fake.hang_up()
            configmap(fake, "later")
            await eventually(lambda: "is not trusted" in stats_of(exporter).error)
            authority.write_bytes((TLS / "untrusted.crt").read_bytes())
            await exporter.until(lambda _events: ("added", "later") in seen(memory))
            assert stats_of(exporter).snapshots == 1
    assert not {"deleted", "gap"} & {event.change for event in memory.events}


async def test_scenario_35_a_wall_clock_that_jumps_loses_nothing_and_changes_no_order(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    ahead = 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + ahead) * 1e9))
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        for number, jump in enumerate((86_400.0, -86_400.0, 10 * 365 * 86_400.0, 0.0)):
            ahead = jump
            configmap(fake, f"c{number}")
            fake.hang_up()
            await exporter.until(lambda _events, n=number: ("added", f"c{n}") in seen(memory))  # type: ignore[misc]
        assert stats_of(exporter).snapshots == 1
    assert seen(memory)[1:] == [("added", f"c{number}") for number in range(4)]


async def test_scenario_36_an_event_that_a_sink_refuses_goes_aside_with_the_reason_and_holds_up_none(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory, aside = Memory(), Memory()

    def fail(events: Sequence[Event]) -> None:
        for place, event in enumerate(events):
            if event.attributes.objname == "poison":
                raise RejectedError("too large", written=place)

    memory.fail = fail
    text = sinks_of(fake, tmp_path, memory={"rejects_to": "aside", "batch": {"max_events": 1}}, aside={})
    async with Exporter(text, memory, aside=aside.type("aside")) as exporter:
        await exporter.synced()
        for name in ("a", "poison", "b"):
            configmap(fake, name)
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
        await aside.until(lambda events: len(events) == 1)
    assert seen(memory)[1:] == [("added", "a"), ("added", "b")]
    (refused,) = aside.events
    assert (refused.attributes.objname, refused.attributes.rejectedby) == ("poison", "memory")
    assert "too large" in refused.attributes.rejectedreason


async def test_scenario_37_a_sink_that_fails_for_a_while_gets_everything_in_order(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory = Memory()
    failures = iter(range(10))

    def fail(_events: Sequence[Event]) -> None:
        if next(failures, None) is not None:
            raise TransientError("try again")

    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)
        memory.fail = fail
        for number in range(20):
            configmap(fake, f"c{number}")
        await exporter.until(lambda _events: ("added", "c19") in seen(memory))
    assert seen(memory)[1:] == [("added", f"c{number}") for number in range(20)]


async def test_scenario_41_a_second_exporter_is_refused_or_has_a_journal_of_its_own_and_the_same_ids(
    fake: FakeCluster, tmp_path: Path
) -> None:
    memory, other = Memory(), Memory()
    configmap(fake, "a")
    async with Exporter(config(fake, tmp_path, "configmaps"), memory) as exporter:
        await watching(exporter)

        async def second(place: Path) -> None:
            async with Exporter(config(fake, place, "configmaps"), other) as twin:
                await watching(twin)
                configmap(fake, "b")
                await twin.until(lambda _events: ("added", "b") in seen(other))

        with pytest.raises(KexportError, match="in use"):
            await second(tmp_path)
        assert other.events == []
        await second(tmp_path / "other")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
    assert [event.id for event in other.events if event.subject.startswith("default/")] == [
        event.id for event in memory.events if event.subject.startswith("default/")
    ]


async def test_scenario_42_a_paused_exporter_goes_on_and_43_a_signal_stops_it_with_all_delivered(
    fake: FakeCluster, tmp_path: Path
) -> None:
    shell = CommandLine(tmp_path)
    shell.configure(f"url = '{fake.url}'", resources='[[resources]]\nresource = "configmaps"\n')
    process = await shell.start("run")
    try:
        await read_until(process.stderr, "stream synced")
        process.send_signal(signal.SIGSTOP)
        for number in range(20):
            configmap(fake, f"c{number}")
        await fake.restart()  # it wakes up to a dead connection, and to a server that has forgotten
        process.send_signal(signal.SIGCONT)
        await eventually(lambda: "/c19" in delivered(shell))
        configmap(fake, "last")
        await eventually(lambda: "/last" in delivered(shell))
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 0
    events = [json.loads(line) for line in delivered(shell).splitlines()]
    subjects = [each["subject"] for each in events if each["type"].startswith("io.kexport.object")]
    assert subjects == [*(f"default/c{number}" for number in range(20)), "default/last"]


def delivered(shell: CommandLine) -> str:
    path = shell.folder / "events.jsonl"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def sinks_of(fake: FakeCluster, tmp_path: Path, **sinks: dict[str, Any]) -> str:
    retry = {"min_seconds": 0.01, "max_seconds": 0.05}
    return toml_of(
        {
            "cluster": {"name": "test", "url": fake.url},
            "journal": {"path": str(tmp_path / "state")},
            "http": {"listen": ""},
            "resources": [{"resource": "configmaps"}],
            "sinks": {name: {"type": name, "retry": retry, **table} for name, table in sinks.items()},
        }
    )


def trusting(folder: Path, port: int, authority: Path) -> Path:
    """A kubeconfig for a server on this port, whose certificate that authority made."""
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
    path = folder / "config.yaml"
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "clusters": [{"name": "one", "cluster": cluster}],
        "users": [{"name": "one", "user": {}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@asynccontextmanager
async def over_tls(fake: FakeCluster) -> AsyncIterator[int]:
    """The fake behind TLS, as a balancer would put it; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "untrusted.crt", TLS / "untrusted.key")

    async with serving(partial(forward, fake.port), ssl=context) as port:
        yield port
