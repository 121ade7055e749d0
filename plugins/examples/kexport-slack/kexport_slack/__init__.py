"""The slack sink: a write's changes as one message that people can read.

`write` returns when Slack has answered 200 and `ok`. A message sums up: it is no archive of events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexport import BatchConfig, SinkType, hookimpl
from kexport_slack.config import SlackConfig
from kexport_slack.sink import SlackSink

# People would rather read one message of what belongs together than five in a row.
slack_sink = SinkType("slack", SlackConfig, SlackSink, batch=BatchConfig(max_events=500, max_wait_seconds=5))


@hookimpl
def kexport_sinks() -> Iterable[SinkType[Any]]:
    return [slack_sink]
