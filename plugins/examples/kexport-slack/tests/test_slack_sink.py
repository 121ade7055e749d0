"""Messages: how changes are grouped, when a message counts as told, and what each answer leads to."""

from __future__ import annotations

import asyncio
import re
import tomllib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import kexport_slack
import msgspec
import pytest
from aiohttp import web
from kexport_slack.config import SlackConfig

from kexport import ConfigError, Event, RejectedError, TransientError
from kexport.testing import make_context

from .slack_arrangement import PATH, Slack, build, deployment, gap, opened, told

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ENGINES = {"type", "batch", "retry", "timeout_seconds", "rejects_to"}


def added(first: int, last: int) -> list[Event]:
    return [
        told(number, "added", subject=f"shop/web-{number}", partitionkey=f"uid-{number}")
        for number in range(first, last + 1)
    ]


async def test_a_write_is_one_message_with_a_heading() -> None:
    async with Slack().running() as slack, opened(slack) as sink:
        await sink.write(added(1, 3))
        (message,) = slack.messages
    assert message.text.split("\n") == [
        "prod-eu: 3 changes",
        "• Deployment shop/web-1: added, image web:1.4, replicas 3",
        "• Deployment shop/web-2: added, image web:1.4, replicas 3",
        "• Deployment shop/web-3: added, image web:1.4, replicas 3",
    ]
    assert (message.payload["mrkdwn"], message.payload["unfurl_links"]) == (False, False)


async def test_no_more_than_max_lines_and_gaps_are_the_last_to_be_left_out() -> None:
    async with Slack().running() as slack, opened(slack, max_lines=3) as sink:
        await sink.write([*added(1, 30), gap(complete=False), *added(31, 39)])
        (message,) = slack.messages
    first, second, third, rest = message.lines
    assert (first[:24], second[:24]) == ("• Deployment shop/web-1:", "• Deployment shop/web-2:")
    assert third.startswith("⚠ GAP in pods/*: expired")
    assert rest == "… and 37 more changes"


async def test_a_message_stays_below_slacks_limit_entities_included() -> None:
    events = [told(n, "added", deployment("&" * 300), partitionkey=f"uid-{n}") for n in range(1, 101)]
    async with Slack().running() as slack, opened(slack, max_lines=200) as sink:
        await sink.write(events)
        (message,) = slack.messages
    assert 1_000 < len(message.text) < 4_000
    assert message.lines[-1] == f"… and {100 - (len(message.lines) - 1)} more changes"


async def test_names_cannot_call_people() -> None:
    event = told(1, "added", deployment("a<!channel>&b"))
    async with Slack().running() as slack, opened(slack) as sink:
        await sink.write([event])
        assert slack.lines == ["• Deployment shop/web: added, image a&lt;!channel&gt;&amp;b, replicas 3"]


async def test_nothing_to_see_is_no_message() -> None:
    async with Slack().running() as slack, opened(slack) as sink:
        await sink.write([told(1, "added", origin="snapshot"), told(2, "modified")])
        assert slack.requests == 0


async def test_a_failed_message_is_not_remembered_and_is_told_again_in_full() -> None:
    async with Slack().running() as slack, opened(slack) as sink:
        await sink.write([told(1, "added")])
        slack.scripted = [web.Response(status=503)]
        change = told(2, "modified", deployment("web:1.5"))
        with pytest.raises(TransientError) as failed:
            await sink.write([change])
        assert failed.value.written == 0
        await sink.write([change])
        await sink.write([change])  # Slack has it: nothing new
        assert slack.lines[1:] == ["• Deployment shop/web: image 1.4 → 1.5"]


async def test_the_interval_between_messages_is_kept_after_failures_too() -> None:
    async with Slack().running() as slack, opened(slack, min_interval_seconds=1) as sink:
        await sink.write(added(1, 1))
        slack.scripted = [web.Response(status=503)]
        with pytest.raises(TransientError):
            await sink.write(added(2, 2))
        await sink.write(added(2, 2))
        first, second = slack.messages
        assert second.at - first.at >= 1.5  # two intervals, but for what the first was on its way


async def test_cancelled_writes_do_not_make_the_next_one_wait_longer() -> None:
    async with Slack().running() as slack, opened(slack, min_interval_seconds=3) as sink:
        await sink.write(added(1, 1))
        for _ in range(20):
            writing = asyncio.ensure_future(sink.write(added(2, 2)))
            for _ in range(10):  # as far as the pause
                await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        await asyncio.wait_for(sink.write(added(2, 2)), 30)
        assert len(slack.messages) == 2


@pytest.mark.parametrize("position", [0, 5, 9])
async def test_the_change_that_slack_refuses_is_found_and_no_other_is_lost(position: int) -> None:
    events = added(1, 10)
    events[position] = told(99, "added", deployment("poison"), partitionkey="uid-99")
    async with Slack().running() as slack, opened(slack) as sink:
        slack.poison = "poison"
        with pytest.raises(RejectedError, match=r"400 \(invalid_payload\) to this change alone") as failed:
            await sink.write(events)
        assert failed.value.written == position
        assert len(slack.lines) == position
        await sink.write(events[position + 1 :])
        assert len(slack.lines) == 9


@pytest.mark.parametrize(
    ("status", "word", "refused"),
    [
        (400, "invalid_payload", True),
        (400, "no_text", True),
        (400, "msg_too_long", True),
        (413, "", True),
        (400, "user_not_found", False),
        (400, "something new", False),
        (403, "action_prohibited", False),
        (403, "invalid_token", False),
        (403, "team_disabled", False),
        (404, "channel_not_found", False),
        (404, "no_service", False),
        (404, "no_team", False),
        (410, "channel_is_archived", False),
        (302, "", False),
        (408, "", False),
        (429, "rate_limited", False),
        (500, "rollup_error", False),
        (503, "", False),
        (200, "<html>please log in</html>", False),
        (201, "ok", False),
        (204, "", False),
    ],
)
async def test_only_words_about_the_message_refuse_it(status: int, word: str, refused: bool) -> None:
    async with Slack().running() as slack, opened(slack) as sink:
        slack.scripted = [web.Response(status=status, text=word or None)]
        with pytest.raises(RejectedError if refused else TransientError, match=str(status)) as failed:
            await sink.write(added(1, 1))
        assert failed.value.written == 0  # type: ignore[attr-defined, unused-ignore]
        assert slack.messages == []
        await sink.write(added(1, 1))
        assert len(slack.messages) == 1


@pytest.mark.parametrize(
    ("word", "way_out"), [("no_service", "make a new one"), ("channel_is_archived", "unarchive")]
)
async def test_a_message_of_ours_names_the_way_out(word: str, way_out: str) -> None:
    async with Slack().running() as slack, opened(slack) as sink:
        slack.scripted = [web.Response(status=404, text=word)]
        with pytest.raises(TransientError, match=rf"sinks\.people: .*{word}.*{way_out}"):
            await sink.write(added(1, 1))


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("7", 7, 7), ("DATE", 250, 300), ("PAST", 0, 0), ("soon", None, None), ("nan", None, None)],
)
async def test_retry_after_is_heard(said: str, least: float | None, most: float | None) -> None:
    now = datetime.now(UTC)
    said = said.replace("DATE", format_datetime(now + timedelta(seconds=300), usegmt=True))
    said = said.replace("PAST", format_datetime(now - timedelta(days=1), usegmt=True))
    async with Slack().running() as slack, opened(slack) as sink:
        slack.scripted = [web.Response(status=429, headers={"Retry-After": said})]
        with pytest.raises(TransientError) as failed:
            await sink.write(added(1, 1))
    if least is None or most is None:
        assert failed.value.retry_after is None
    else:
        assert failed.value.retry_after is not None
        assert least <= failed.value.retry_after <= most


async def test_a_slack_that_is_away_and_comes_back() -> None:
    async with Slack().running() as slack:
        sink = build(slack.url)
        await sink.write(added(1, 1))
        await slack.stop()
        with pytest.raises(TransientError, match=r"cannot be reached|connection broke"):
            await sink.write(added(2, 2))
        await slack.start()
        await sink.write(added(2, 2))
        await sink.close()
        assert len(slack.lines) == 2


async def test_a_slack_that_says_nothing_is_given_up_in_time() -> None:
    async def never(_request: web.Request) -> None:
        await asyncio.Event().wait()

    async with Slack().running() as slack, opened(slack, request_timeout_seconds=3) as sink:
        slack.scripted = [never]
        with pytest.raises(TransientError, match="request_timeout_seconds = 3"):
            await sink.write(added(1, 1))
        await sink.write(added(1, 1))


async def test_the_url_is_not_told_though_slack_repeats_it() -> None:
    async with Slack().running() as slack, opened(slack) as sink:
        slack.scripted = [web.Response(status=403, text=f"bad token s3cretS3cretS3cret of {PATH}")]
        with pytest.raises(TransientError, match="bad token") as failed:
            await sink.write(added(1, 1))
    assert "s3cret" not in str(failed.value)
    assert "T0TEAM000" not in str(failed.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("hooks.example.org/s3cret", "must begin with https"),
        ("ftp://h/s3cret", "must begin with https"),
        ("https://h:s3cret", "is no URL"),
        ("https://ann:s3cret@h/x", "has a password"),
    ],
)
def test_an_url_that_cannot_work_is_refused_without_telling_it(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"sinks\.people\.webhook_url: {words}") as refused:
        build(url)
    assert "s3cret" not in str(refused.value)


async def test_something_that_is_no_cloudevent_is_refused_by_its_number() -> None:
    async with Slack().running() as slack, opened(slack) as sink:
        with pytest.raises(RejectedError, match="no CloudEvent") as refused:
            await sink.write([*added(1, 2), Event(b"{}"), *added(3, 4)])
        assert refused.value.written == 2
        assert len(slack.lines) == 2


def test_the_plugin_registers_its_sink_type_with_a_batch_that_waits() -> None:
    (kind,) = kexport_slack.kexport_sinks()
    assert (kind.name, kind.config) == ("slack", SlackConfig)
    assert kind.batch.max_wait_seconds > 0


def test_the_readme_has_every_setting_with_its_default_and_description() -> None:
    table = README.split("## Settings")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", table, flags=re.MULTILINE))
    fields = msgspec.json.schema(SlackConfig)["$defs"]["SlackConfig"]
    assert list(rows) == list(fields["properties"])
    for name, each in fields["properties"].items():
        default = (
            "required" if name in fields["required"] else f"`{msgspec.json.encode(each['default']).decode()}`"
        )
        assert rows[name] == f"{default} | {each['description']}"


def test_the_configurations_in_the_readme_build_a_sink() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        document: dict[str, Any] = tomllib.loads(block.replace("${SLACK_WEBHOOK_URL}", "https://h/x"))
        for name, table in document["sinks"].items():
            assert table["type"] == "slack"
            own = {key: value for key, value in table.items() if key not in ENGINES}
            kexport_slack.slack_sink.build(msgspec.convert(own, SlackConfig), make_context(name))
