"""Metrics over OTLP are sent as they were configured, and a far end can do no harm."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from kexport import push as push_module
from kexport.check import check
from kexport.config import parse
from kexport.errors import ConfigError
from kexport.health import checks, ready
from kexport.journal import Journal
from kexport.points import Points
from kexport.push import Push
from kexport.tables import JournalConfig
from kexport.telemetry import Stats
from kexport.testing import FakeCluster
from kexport.view import View
from tests.exporter import Exporter, Memory, toml_of
from tests.looking import configuration, pod, view_of
from tests.otlp import accept, receiving, sent
from tests.pushing import both, document, pushing, still


async def test_an_engine_sends_its_metrics_and_the_last_of_them_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(push_module, "LAST_SECONDS", 30.0)
    async with receiving() as receiver:
        settings = {"otlp_headers": {"authorization": "Bearer x"}, "timeout_seconds": 30.0}
        async with pushing(tmp_path, receiver, **settings) as (cluster, exporter):
            await receiver.until(2)
            cluster.create(pod("last"))
            await exporter.until(lambda events: events[-1].subject == "default/last")
            view = view_of(exporter)
        last = sent(receiver.requests[-1])
        assert last["kexport_sink_delivered_events_total", frozenset({("sink", "memory")})] == len(
            exporter.events
        )
        # One that was under way at the stop was broken off.
        assert len(receiver.requests) - 1 <= view.stats.pushes <= len(receiver.requests)
        assert {*receiver.paths} == {"/v1/metrics"}
        assert receiver.headers[0]["authorization"] == "Bearer x"
        assert receiver.headers[0]["content-type"] == "application/x-protobuf"


async def refuse():
    return web.Response(status=503, text="full")


async def redirect():
    return web.Response(status=307, headers={"Location": "/elsewhere"})


async def partly():
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    answer.partial_success.error_message = "too old"
    return web.Response(body=answer.SerializeToString())


async def login_page():
    return web.Response(text="<html>Who are you?</html>")


async def endless():
    return web.Response(body=b"x" * (push_module.MOST_ANSWER_BYTES + 1))


async def silence():
    await asyncio.sleep(60)
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (refuse, "HTTP 503 Service Unavailable: full"),
        (redirect, "HTTP 307"),
        (partly, "3 points rejected: too old"),
        (login_page, "the answer is no OTLP answer"),
        (endless, "an answer of more than 65536 bytes"),
        (silence, "no answer within 2 s"),
    ],
)
async def test_a_far_end_in_trouble_is_said_once_and_counted_and_touches_nothing(
    tmp_path, caplog, answer, why
):
    caplog.set_level("INFO", "kexport")
    timeout = 2.0 if answer is silence else 30.0
    async with receiving() as receiver:
        receiver.answer = answer
        async with pushing(tmp_path, receiver, timeout_seconds=timeout) as (cluster, exporter):
            view = view_of(exporter)
            cluster.create(pod("second"))
            await exporter.until(lambda events: events[-1].subject == "default/second")
            await exporter.look(
                lambda: view.stats.push_failures >= 2, seconds=60, what=lambda: view.stats.push_error
            )
            assert view.stats.push_error.startswith(why)
            assert view.stats.pushes == 0
            found = checks(view)
            assert ready(found)
            assert any(each.what == "metrics over OTLP" and why in each.detail for each in found)
            receiver.answer = accept
            await exporter.look(
                lambda: view.stats.pushes >= 1, seconds=60, what=lambda: view.stats.push_error
            )
            # Read here: what is sent at the end has little time, and may be too late.
            sentences = [record.getMessage() for record in caplog.records]
            assert view.stats.push_error == ""
            last = sent(receiver.requests[-1])
            # The reading is made before it is known how it ends.
            assert last["kexport_otlp_push_failures_total", frozenset()] >= 2
    assert sentences.count("metrics cannot be sent; exporting goes on") == 1
    assert sentences.count("metrics are accepted again") == 1


async def test_a_far_end_that_is_not_there_delays_neither_events_nor_the_end(tmp_path):
    class Nowhere:
        url = "http://127.0.0.1:1"

    async with pushing(tmp_path, Nowhere, timeout_seconds=60.0) as (_, exporter):
        view = view_of(exporter)
        await exporter.look(lambda: view.stats.push_failures >= 1, seconds=20, what=lambda: "no failure")
        started = time.monotonic()
    assert time.monotonic() - started < 20
    assert "Connect" in view.stats.push_error
    assert view.stats.push_failures >= 1


async def test_a_far_end_that_goes_silent_delays_the_end_by_two_seconds_at_most(tmp_path):
    async with receiving() as receiver:
        settings = {"interval_seconds": 60.0, "timeout_seconds": 60.0}
        async with pushing(tmp_path, receiver, **settings) as (_, exporter):
            await exporter.look(
                lambda: view_of(exporter).stats.pushes == 1, seconds=20, what=lambda: "nothing was sent"
            )
            receiver.answer = silence
            started = time.monotonic()
        assert push_module.LAST_SECONDS <= time.monotonic() - started < push_module.LAST_SECONDS + 30


@pytest.mark.parametrize(
    ("endpoint", "path", "shown"),
    [
        ("", "/v1/metrics", "/v1/metrics"),
        ("/", "/v1/metrics", "/v1/metrics"),
        ("?key=s3cret", "/v1/metrics?key=s3cret", "/v1/metrics"),
        ("/otlp/push?a=b", "/otlp/push?a=b", "/otlp/push"),
    ],
)
async def test_the_path_is_added_where_there_is_none_and_a_query_is_not_shown(
    tmp_path, endpoint, path, shown
):
    async with receiving() as receiver, still(tmp_path, otlp_endpoint=receiver.url + endpoint) as view:
        push = Push(view)
        await push.once(10)
        await push.close()
        assert {*receiver.paths} == {path}
        assert push._sender
        assert push._sender.shown == receiver.url + shown
        assert view.stats.push_error == ""


async def test_a_certificate_file_that_cannot_be_used_is_a_failure_like_others(tmp_path):
    absent = str(tmp_path / "absent.pem")
    async with still(tmp_path, otlp_endpoint="https://127.0.0.1:1", otlp_ca_file=absent) as view:
        push = Push(view)
        await push.once(10)
        await push.close()
        assert view.stats.push_error.startswith(f"telemetry.otlp_ca_file: {absent} cannot be used")


@pytest.mark.parametrize(
    ("telemetry", "problem"),
    [
        ({"otlp_endpoint": "collector:4318"}, "telemetry.otlp_endpoint: "),
        ({"otlp_endpoint": "http://user:secret@collector:4318"}, "telemetry.otlp_endpoint: "),
        ({"otlp_endpoint": "http://c", "otlp_headers": {"a b": "c"}}, "telemetry.otlp_headers: "),
        ({"otlp_endpoint": "http://c", "otlp_headers": {"a": "b\nc"}}, "telemetry.otlp_headers: "),
        ({"interval_seconds": 0.5}, "telemetry.interval_seconds: "),
        ({"otlp_endpont": "http://c"}, "did you mean 'otlp_endpoint'"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_place(tmp_path, telemetry, problem):
    with pytest.raises(ConfigError, match="telemetry") as raised:
        parse(toml_of(document(tmp_path, "http://x", **telemetry)), {"memory": Memory().type()})
    assert problem in str(raised.value)


async def test_without_the_extra_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kexport.points", None)
    monkeypatch.delattr("kexport.points")
    text = toml_of(document(tmp_path, "http://127.0.0.1:1", otlp_endpoint="http://127.0.0.1:1"))
    with pytest.raises(ConfigError, match=r"telemetry\.otlp_endpoint: needs .*kexport\[otlp-metrics\]"):
        async with Exporter(text, Memory()) as exporter:
            await exporter.synced()


async def test_another_configuration_is_taken_up_while_it_runs(tmp_path, monkeypatch):
    async with FakeCluster() as cluster, receiving() as first, receiving() as second:
        whole = document(tmp_path, cluster.url, interval_seconds=1.0)
        async with Exporter(lambda: toml_of(whole), Memory()) as exporter:
            await exporter.synced()

            async def reload(**telemetry):
                before = exporter.engine.stats.reloads
                whole["telemetry"] = {"interval_seconds": 1.0, **telemetry}
                exporter.engine.reload()
                await exporter.look(
                    lambda: exporter.engine.stats.reloads > before, seconds=20, what=lambda: "no reload"
                )

            await reload(otlp_endpoint=first.url, otlp_headers={"authorization": "old"})
            await first.until(1)
            await reload(otlp_endpoint=second.url, otlp_headers={"authorization": "new"})
            await second.until(1)
            assert second.headers[0]["authorization"] == "new"
            await reload()
            count = len(second.requests)
        assert len(second.requests) <= count + 1  # one may have been under way
        assert first.headers[0]["authorization"] == "old"


def test_where_it_is_off_nothing_of_opentelemetry_is_loaded():
    code = "import sys, kexport.engine; sys.exit(any(n.startswith('opentelemetry') for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_where_it_is_off_its_metrics_are_not_there(tmp_path):
    config = parse(configuration(tmp_path, "http://127.0.0.1:1"), {"memory": Memory().type()})
    journal = await Journal.open(JournalConfig(path=":memory:"), lanes=["memory"])
    try:
        view = View(Stats(), journal, lambda: config)
        _, on_page, _ = both(view, Points(view))
        assert not any(name.startswith("kexport_otlp") for name, _ in on_page)
        assert not any(each.what == "metrics over OTLP" for each in checks(view))
    finally:
        await journal.close()


async def test_check_tries_the_far_end(tmp_path):
    async with FakeCluster() as cluster, receiving() as receiver:
        path = tmp_path / "config.toml"
        path.write_text(toml_of(file_document(tmp_path, cluster.url, receiver.url)))
        report = await check(path, max_wait_seconds=10)
        (found,) = [each for each in report.findings if each.what == "telemetry"]
        assert (found.code, found.text) == (0, f"{receiver.url}/v1/metrics takes metrics over OTLP")
        receiver.answer = refuse
        report = await check(path, max_wait_seconds=10)
        (found,) = [each for each in report.findings if each.what == "telemetry"]
        assert found.code == 1
        assert "HTTP 503" in found.text


def file_document(directory, cluster_url, endpoint):
    whole = document(directory, cluster_url, otlp_endpoint=endpoint)
    return {**whole, "sinks": {"file": {"type": "file", "path": str(directory / "out.jsonl")}}}
