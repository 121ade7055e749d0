"""The sink contract S1-S10 as tests: subclass `SinkContract`, say where the sink stores, and run pytest.

    class TestMySink(SinkContract[MyConfig]):
        sink_type = my_sink

        @pytest.fixture
        def config(self, tmp_path: Path) -> MyConfig:
            return MyConfig(path=str(tmp_path / "events"))

        async def stored(self, config: MyConfig) -> list[str]:
            return [json.loads(line)["id"] for line in Path(config.path).read_text().splitlines()]

Each test is named after the rule that it checks. What the destination cannot do is left out, and skipped.
`stage` has what a subclass gives, `rules` the tests about events; here are those about a sink by itself.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, nullcontext

import pytest

from kexport.config import engine_fields
from kexport.errors import ConfigError
from kexport.sink import Sink
from kexport.testing import disclosure
from kexport.testing.rehearsal import CLOSE_SECONDS, input_and_output, make_context, outcome, unfinished
from kexport.testing.rules import DeliveryRules
from kexport.testing.stage import C

MARKER = "hunter2-kexport-4711"
_SETTLE_SECONDS = 5.0


class SinkContract(DeliveryRules[C]):
    """Give `sink_type`, the fixture `config` and `stored`; the other methods as far as they apply."""

    # -- S1: build ----------------------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_s1_build_does_no_input_or_output(self, config: C) -> None:
        """S1: building opens nothing, connects nowhere, starts nothing: `kexport check` builds every sink."""
        tasks = asyncio.all_tasks()
        with input_and_output() as seen:
            sink = self.sink_type.build(config, make_context())
        assert not seen, f"S1: build does I/O, which belongs into open: {seen}"
        assert asyncio.all_tasks() == tasks, "S1: build starts a task, which belongs into open"
        await self._outcome(sink.close(), "close")  # whatever comes of it is S9's matter

    # -- S9: close ----------------------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_s9_close_may_be_called_twice(self, config: C) -> None:
        """S9: the second close does nothing; the first lets go of everything, its tasks too."""
        others = asyncio.all_tasks()
        async with self._opened(config) as sink:
            await self._write(sink, self._events(1, 3))
        await self._close(sink, "a second time")
        # A server in this loop hears of a closed connection a little later; its task is not the sink's.
        left = [task.get_name() for task in await unfinished(others, seconds=_SETTLE_SECONDS)]
        assert not left, f"S9: tasks go on after close: {left}"

    @pytest.mark.asyncio
    async def test_s9_close_without_open(self, config: C) -> None:
        """S9: a sink that was built and never opened can be closed, as after a ConfigError elsewhere."""
        await self._close(self.sink_type.build(config, make_context()), "without open")

    @pytest.mark.asyncio
    async def test_s9_close_after_a_failed_open(self, config: C) -> None:
        """S9: close after `open` failed, with the destination still down, ends in time and without error."""
        down = self.outage(config)
        sink = self.sink_type.build(config, make_context())
        async with down:
            await self._outcome(sink.open(), "open in an outage")
            await self._close(sink, "after a failed open")
            await self._close(sink, "a second time after a failed open")

    async def _close(self, sink: Sink, when: str) -> None:
        failure = await outcome(sink.close(), seconds=CLOSE_SECONDS, what=f"S9: close {when}")
        assert failure is None, f"S9: close {when} raises {failure!r}"

    # -- S10: settings ------------------------------------------------------------------------------------

    def test_s10_an_unknown_setting_is_refused(self, config: C) -> None:
        """S10: a misspelt setting is an error, at every depth, never ignored."""
        assert disclosure.accepts(config), "S10: the settings of the test could not come from TOML"
        assert not disclosure.accepts(config, no_such_setting=1), "S10: an unknown setting is accepted"
        taking = disclosure.open_tables(type(config))
        assert not taking, f"S10: forbid_unknown_fields=True is missing: {taking}"

    def test_s10_every_setting_is_described(self) -> None:
        """S10: documents and the schema are made from the descriptions."""
        without = disclosure.undescribed(self.sink_type.config)
        assert not without, f"S10: settings without Meta(description=...): {without}"

    def test_s10_no_setting_is_the_engines(self) -> None:
        """S10: `type`, `batch`, `retry`, `timeout_seconds` and `rejects_to` stand in the same table."""
        try:
            engine_fields(self.sink_type)
        except ConfigError as error:
            pytest.fail(f"S10: {error}")

    @pytest.mark.asyncio
    async def test_s10_secrets_are_not_told(
        self, config: C, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """S10: no secret in repr, logs, output or messages, in an outage neither."""
        caplog.set_level(logging.DEBUG, logger="kexport")
        secretive = self.with_secrets(config, MARKER)
        told = {"repr(config)": repr(secretive), "str(config)": f"{secretive}"}
        try:
            sink = self.sink_type.build(secretive, make_context())
        except ConfigError as error:
            told["what build raises"] = str(error)
        else:
            told["repr(sink)"] = repr(sink)
            told["what open raises"] = opening = str(await self._outcome(sink.open(), "open") or "")
            if not opening:
                told["what write raises"] = str(await self._outcome(sink.write(self._events(1, 3)), "write"))
                async with self._outage_if_any(config):
                    failure = await self._outcome(sink.write(self._events(4, 60)), "write in an outage")
                told["what write raises in an outage"] = str(failure)
            told["what close raises"] = str(await self._outcome(sink.close(), "close"))
        told["the log"] = "\n".join(repr(vars(record)) for record in caplog.records)
        told["the output"] = "".join(capfd.readouterr())
        telling = [name for name, text in told.items() if MARKER in text]
        assert not telling, f"S10: a secret is told in {telling}"

    def _outage_if_any(self, config: C) -> AbstractAsyncContextManager[None]:
        try:
            return self.outage(config)
        except pytest.skip.Exception:
            return nullcontext()
