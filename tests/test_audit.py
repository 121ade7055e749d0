"""The audit finds nothing where nothing was lost, and what is wrong where something is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from kexport import audit
from kexport.change import Known, Stream
from kexport.index import Index
from kexport.kube import Client
from kexport.testing.cluster import FakeCluster
from tests.exporter import Exporter, Memory
from tests.objects import (
    beat,
    config,
    configmap,
    eventually,
    seen,
)


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr("kexport.streams.SOON_SECONDS", 0.02)
    async with FakeCluster(fresh_wait_seconds=0.05) as cluster:
        yield cluster


async def test_an_audit_finds_nothing_where_nothing_was_lost(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    for number in range(20):
        configmap(fake, f"c{number}")
    async with Exporter(config(fake, tmp_path, "configmaps", audit_seconds=0.01), memory) as exporter:
        await exporter.synced()
        stats = exporter.engine.stats.streams["configmaps/*"]
        for number in range(50):
            fake.patch("configmaps", "default", f"c{number % 20}", {"data": {"n": str(number)}})
            await asyncio.sleep(0.01)
        await eventually(lambda: beat(fake) and stats.audits >= 3)
        assert stats.audit_differences == 0
    assert "gap" not in {event.change for event in memory.events}


async def test_scenario_44_an_audit_finds_and_mends_what_is_wrong(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    text = config(fake, tmp_path, "configmaps", audit_seconds=0.01)
    for name in "abc":
        configmap(fake, name)
    async with Exporter(text, memory) as exporter:
        await exporter.synced()
    with closing(sqlite3.connect(tmp_path / "state" / "journal.db")) as journal:
        index = Index(journal)
        index.write({1: {"default/a": None, "default/b": Known(index.known(1)["default/b"].uid, "1")}})
        journal.commit()
    async with Exporter(text, memory) as exporter:
        await eventually(lambda: beat(fake) and any(e.change == "gap" for e in memory.events))
        stats = exporter.engine.stats.streams["configmaps/*"]
        found = stats.audit_differences
        audits = stats.audits
        await eventually(lambda: beat(fake) and stats.audits > audits)
        assert (found, stats.audit_differences) == (2, 2)
    gap = next(event for event in memory.events if event.change == "gap").data["object"]
    assert (gap["reason"], gap["added"], gap["modified"], gap["deleted"]) == ("audit", 1, 1, 0)


async def test_an_audit_that_cannot_be_made_changes_nothing(fake: FakeCluster, tmp_path: Path) -> None:
    memory = Memory()
    configmap(fake, "a")
    fake.fail(500, times=1000, path_contains="Exact")
    async with Exporter(config(fake, tmp_path, "configmaps", audit_seconds=0.01), memory) as exporter:
        await exporter.synced()
        await eventually(lambda: beat(fake) and sum("Exact" in path for _, path in fake.requests) > 2)
        configmap(fake, "b")
        await exporter.until(lambda _events: ("added", "b") in seen(memory))
    assert not {"deleted", "gap"} & {event.change for event in memory.events}


async def test_a_bug_in_an_audit_is_met_once_and_the_next_one_is_made(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    failed: list[Stream] = []
    audited = audit.differences

    async def buggy(client: Client, stream: Stream, index: audit.Index) -> int:
        if not failed:
            failed.append(stream)
            raise ZeroDivisionError("a bug")
        return await audited(client, stream, index)

    monkeypatch.setattr(audit, "differences", buggy)
    async with Exporter(config(fake, tmp_path, "configmaps", audit_seconds=0.01), memory) as exporter:
        await exporter.synced()
        stats = exporter.engine.stats.streams["configmaps/*"]
        await eventually(lambda: beat(fake) and stats.audits >= 1)
    assert failed
