"""What an informer must do about a gap, said once for FakeCluster and for the real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.exporter import Exporter, Memory, told
from tests.shop import Shop, ShopCases, about, value


class GapCases(ShopCases):
    """Subclass it, and give it a `server` fixture."""

    async def test_scenario_2_after_a_restart_of_both_the_lost_changes_are_recovered_and_a_gap_says_so(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        for name in ("kept", "changed", "gone", "remade"):
            await shop.create(name)
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        old_uid = next(
            e.attributes.partitionkey for e in memory.events if e.subject == shop.subject("remade")
        )
        await shop.change("changed", "1")
        await shop.delete("gone")
        await shop.delete("remade")
        await shop.create("remade")
        await shop.create("new")
        await shop.server.restart()
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: any(e.change == "synced" for e in events[seen:]))
        events = memory.events[seen:]
        assert about(events, shop) == [
            ("modified", "changed", "recovered"), ("deleted", "gone", "recovered"),
            ("deleted", "remade", "recovered"), ("added", "remade", "recovered"),
            ("added", "new", "recovered"),
        ]  # fmt: skip
        remade = [e for e in events if e.subject == shop.subject("remade")]
        assert remade[0].id == f"{old_uid}/deleted"
        assert remade[1].attributes.partitionkey != old_uid
        gap = next(e for e in events if e.change == "gap").data["object"]
        assert (gap["added"], gap["modified"], gap["deleted"]) == (0, 0, 0)
        assert gap["recovered"] >= 5  # clusters add objects of their own
        assert int(gap["from"]) < int(gap["to"])
        assert gap["complete"] is True

    async def test_scenario_2_every_version_while_it_was_down_comes_back_as_a_watch_would_have_shown_it(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        for name in ("changed", "gone", "remade"):
            await shop.create(name)
        async with Exporter(self.config(shop, tmp_path / "down"), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        witness = Memory()
        async with Exporter(self.config(shop, tmp_path / "up"), witness) as watching:
            await watching.synced()
            start = len(witness.events)
            await _busy_day(shop)
            await watching.until(lambda events: any(value(e) == "last" for e in events))
        await shop.server.restart()
        async with Exporter(self.config(shop, tmp_path / "down"), memory) as exporter:
            await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
        truth, recovered = witness.events[start:], memory.events[seen:]
        assert [each[:2] for each in about(recovered, shop)] == [each[:2] for each in about(truth, shop)]
        assert {origin for _, _, origin in about(recovered, shop)} == {"recovered"}
        assert _bodies(recovered, shop) == _bodies(truth, shop)
        gap = next(e for e in recovered if e.change == "gap").data["object"]
        assert (gap["complete"], gap["scanned"]) == (True, True)

    async def test_without_a_look_at_each_version_only_short_lives_are_overlooked(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        for name in ("changed", "gone", "remade"):
            await shop.create(name)
        text = self.config(shop, tmp_path)
        text = text.replace("[cluster]", "[cluster]\nrecover_scan_revisions = 0")
        async with Exporter(text, memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        await _busy_day(shop)
        await shop.server.restart()
        async with Exporter(text, memory) as exporter:
            await exporter.until(lambda events: any(e.change == "gap" for e in events[seen:]))
        events = memory.events[seen:]
        assert about(events, shop) == [
            ("modified", "changed", "recovered"), ("added", "new", "recovered"),
            ("modified", "changed", "recovered"), ("modified", "gone", "recovered"),
            ("deleted", "gone", "recovered"), ("deleted", "remade", "recovered"),
            ("added", "remade", "recovered"), ("modified", "remade", "recovered"),
            ("modified", "changed", "recovered"),
        ]  # fmt: skip
        gap = next(e for e in events if e.change == "gap").data["object"]
        assert (gap["complete"], gap["scanned"]) == (False, False)

    async def test_every_version_since_the_servers_memory_begins_is_delivered(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("a")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        await shop.change("a", "lost 1")
        await shop.change("a", "lost 2")
        await shop.server.restart()
        for newer in ("1", "2", "3"):  # after the restart: the server's watch cache has these
            await shop.change("a", newer)
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: any(value(e) == "3" for e in events[seen:]))
        values = [value(e) for e in memory.events[seen:] if e.subject == shop.subject("a")]
        assert values == ["lost 1", "lost 2", "1", "2", "3"]

    async def test_scenario_5_a_restart_while_watching_loses_nothing(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
            await shop.create("a")
            await exporter.until(lambda events: told(events)[-1][1] == shop.subject("a"))
            await shop.server.restart()
            await shop.change("a", "1")
            await exporter.until(lambda events: any(value(e) == "1" for e in events))
        assert [c for c, s, _ in about(memory.events, shop) if s == "a"] == ["added", "modified"]

    async def test_scenario_2_when_etcd_is_compacted_too_the_newest_state_is_compared(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("gone")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        await shop.server.restart()
        await shop.delete("gone")
        await shop.create("new")
        await shop.server.compact()
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: "new" in [s for _, s, _ in about(events, shop)])
            await exporter.until(
                lambda events: "gone" in [s for c, s, _ in about(events, shop) if c == "deleted"]
            )
        last = {subject: change for change, subject, _ in about(memory.events, shop)}
        assert last == {"gone": "deleted", "new": "added"}

    async def test_what_came_after_the_compaction_is_told_whole_where_the_server_remembers_longer_than_etcd(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        """A watch cache keeps the last changes of a quiet resource for hours, etcd keeps all for minutes."""
        await shop.create("a")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        await shop.change("a", "before the restart")
        await shop.server.restart()
        for number in range(5):
            await shop.change("a", f"lost {number}")
        await shop.server.compact()
        for number in range(10):
            await shop.change("a", f"kept {number}")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: any(value(e) == "kept 9" for e in events[seen:]))
        mine = [e for e in memory.events[seen:] if e.subject == shop.subject("a")]
        last = mine[-10:]  # a newer server may show more, out of its cache
        assert [value(e) for e in last] == [f"kept {number}" for number in range(10)]
        assert {e.attributes.origin for e in last} <= {"watch", "recovered"}

    async def test_scenario_39_a_journal_that_was_lost_is_a_gap_not_a_fresh_start(
        self, shop: Shop, memory: Memory, tmp_path: Path
    ) -> None:
        await shop.create("a")
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.synced()
        seen = len(memory.events)
        journal = tmp_path / "state" / "journal.db"
        journal.write_bytes(journal.read_bytes()[: 5 * 1024])
        async with Exporter(self.config(shop, tmp_path), memory) as exporter:
            await exporter.until(lambda events: any(e.change == "synced" for e in events[seen:]))
        gap = next(e for e in memory.events[seen:] if e.change == "gap").data["object"]
        assert gap["reason"].startswith("journal-lost")
        assert ("added", "a", "snapshot") in about(memory.events[seen:], shop)
        assert list((tmp_path / "state").glob("broken-*-journal.db"))


async def _busy_day(shop: Shop) -> None:
    """Changes, creations, deletions, objects that come and go, and more than one life under one name."""
    await shop.change("changed", "1")
    await shop.create("new")
    await shop.create("brief")
    await shop.change("brief", "1")
    await shop.delete("brief")
    await shop.change("changed", "2")
    await shop.change("gone", "1")
    await shop.delete("gone")
    await shop.delete("remade")
    await shop.create("remade")
    await shop.delete("remade")
    await shop.create("remade")
    await shop.change("remade", "1")
    await shop.change("changed", "last")


def _bodies(events: list[Any], shop: Shop) -> list[tuple[str, bytes]]:
    names = {shop.subject(name) for name in ("changed", "new", "brief", "gone", "remade")}
    return [(event.id, event.data_json) for event in events if event.subject in names]
