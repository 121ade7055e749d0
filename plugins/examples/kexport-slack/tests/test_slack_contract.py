"""The sink contract on a Slack in the process.

A message is no record of events, so these are chosen such that each gives a line with its number, and a
write such that its lines fit into a message. `records` is left out: how lines are grouped is no promise.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kexport_slack.config import SlackConfig
from kexport_slack.sink import SlackSink

from kexport import BatchConfig, Event, SinkType
from kexport.testing import SinkContract

from .slack_arrangement import Slack, deployment, told


class TestSlack(SinkContract[SlackConfig]):
    sink_type = SinkType("slack", SlackConfig, SlackSink, batch=BatchConfig(max_events=50))

    @pytest.fixture
    async def slack(self) -> AsyncIterator[Slack]:
        async with Slack().running() as slack:
            slack.poison = "poison"
            self._slack = slack
            yield slack

    @pytest.fixture
    def config(self, slack: Slack) -> SlackConfig:
        return SlackConfig(webhook_url=slack.url, max_lines=100, min_interval_seconds=0)

    def event(self, number: int) -> Event:
        """Odd ones are added with an image that has the number, even ones modified to it."""
        uid = _uid(number)
        now = deployment(f"web:{number}")
        if number % 2:
            return told(number, "added", now, partitionkey=uid)
        data = {"object": now, "previous": deployment(f"web:{number}-old")}
        return told(number, "modified", data=data, partitionkey=uid)

    async def stored(self, config: SlackConfig) -> list[str]:
        numbers = []
        for line in self._slack.lines:
            found = re.fullmatch(
                r"• Deployment shop/web: (?:added, image web:(\d+), replicas 3|image \d+-old → (\d+))", line
            )
            assert found, line
            numbers.append(int(found[1] or found[2]))
        return [f"{_uid(number)}/{number}" for number in numbers]

    @asynccontextmanager
    async def outage(self, config: SlackConfig) -> AsyncIterator[None]:
        await self._slack.stop()
        try:
            yield
        finally:
            await self._slack.start()

    def unacceptable(self) -> Event:
        return told(1_000_000, "added", deployment("poison:1"), partitionkey="uid-poison")

    def with_secrets(self, config: SlackConfig, marker: str) -> SlackConfig:
        return SlackConfig(webhook_url=f"{config.webhook_url}/{marker}?key={marker}", min_interval_seconds=0)


def _uid(number: int) -> str:
    return f"uid-{number % 10}"
