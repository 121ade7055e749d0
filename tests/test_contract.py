"""The sink contract itself: a good sink passes it, and each bad one fails by the rule that it breaks."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import pytest
from msgspec import Meta

from kexport import RejectedError, SinkConfig, TransientError
from kexport.testing import SinkContract, disclosure, make_context, make_event
from kexport.testing.rehearsal import deliver, in_order, input_and_output, missing, outcome, pauses, some
from tests import bad_sinks_s1_to_s5, bad_sinks_s6_to_s10, good_sink

pytestmark = pytest.mark.timeout(400)  # the first test that asks waits for a whole run of pytest
ROOT = Path(__file__).parent.parent
MODULES = (good_sink, bad_sinks_s1_to_s5, bad_sinks_s6_to_s10)
CLASSES: dict[str, Any] = {
    name: each
    for module in MODULES
    for name, each in vars(module).items()
    if name.startswith("Test") and inspect.isclass(each)
}
RULES = [f"s{number}" for number in range(1, 11)]
Outcomes = dict[str, dict[str, str]]


def rules_of(contract: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(contract, inspect.isfunction) if name.startswith("test_")]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What a pytest without any of our settings makes of the good and the bad: by class and test."""
    files = [f"tests/{module.__name__.rpartition('.')[2]}.py" for module in MODULES]
    report = tmp_path_factory.mktemp("contract") / "report.xml"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *files, f"--junitxml={report}", "-q", "--tb=line",
         "-c", "/dev/null", f"--rootdir={ROOT}", "--import-mode=importlib", "-p", "no:cacheprovider",
         "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    found: Outcomes = {name: {} for name in CLASSES}
    for case in ET.parse(report).iter("testcase"):
        result = next((each.tag for each in case if each.tag in {"failure", "error", "skipped"}), "passed")
        found[str(case.get("classname")).rpartition(".")[2]][str(case.get("name"))] = result
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_a_sink_fails_by_the_rule_that_it_breaks_and_no_other(name: str, outcomes: Outcomes) -> None:
    assert set(outcomes[name]) == set(rules_of(SinkContract))
    failed = {test.split("_")[1] for test, result in outcomes[name].items() if result in {"failure", "error"}}
    assert failed == ({CLASSES[name].breaks} - {""})


def test_a_good_sink_that_gives_everything_is_tested_on_everything(outcomes: Outcomes) -> None:
    assert set(outcomes["TestGood"].values()) == {"passed"}


def test_what_is_not_given_is_skipped_and_nothing_else(outcomes: Outcomes) -> None:
    skipped = {name for name, result in outcomes["TestBare"].items() if result == "skipped"}
    assert skipped == {
        "test_s2_open_in_an_outage_can_be_asked_again",
        "test_s5_an_outage_is_a_transient_error",
        "test_s5_nothing_is_lost_over_an_outage",
        "test_s5_written_counts_what_is_durable",
        "test_s5_an_unacceptable_event_is_rejected_by_its_number",
        "test_s6_writing_again_gives_the_same_bytes",
        "test_s9_close_after_a_failed_open",
    }


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_tests_that_say_its_number_and_a_sink_that_breaks_it(rule: str) -> None:
    names = [name for name in rules_of(SinkContract) if name.startswith(f"test_{rule}_")]
    assert names
    for name in names:
        assert (getattr(SinkContract, name).__doc__ or "").startswith(f"{rule.upper()}: ")
    assert rule in {each.breaks for each in CLASSES.values()}


def test_every_test_of_the_contract_belongs_to_a_rule() -> None:
    assert all(re.match(r"test_s([1-9]|10)_", name) for name in rules_of(SinkContract))


def test_every_test_catches_at_least_one_bad_sink(outcomes: Outcomes) -> None:
    """A test that nothing can fail would promise what it doesn't look at."""
    caught = {test for each in outcomes.values() for test, result in each.items() if result == "failure"}
    assert set(rules_of(SinkContract)) - caught == set()


class TestGoodSinkHere(good_sink.GoodContract):
    """In the loop and with the settings of our own tests, too."""


# -- the parts --------------------------------------------------------------------------------------------


def test_order_allows_repeats_of_a_whole_end_and_no_others() -> None:
    events = [make_event(number) for number in range(1, 5)]
    a, b, c, d = (event.id for event in events)
    assert in_order([a, b, c, d], events)
    assert in_order([a, b, c, b, c, d], events)
    assert in_order([a, d], events)
    assert in_order([], events)
    assert not in_order([a, c, b, d], events)
    assert not in_order([a, b, c, d, b], events)


def test_missing_are_the_events_that_are_not_stored() -> None:
    events = [make_event(number) for number in range(1, 4)]
    assert missing(["x", events[1].id], events) == [events[0].id, events[2].id]


def test_a_message_names_some_and_counts_the_others() -> None:
    assert some(["b", "a"]) == "a, b"
    assert some("abcdefg") == "a, b, c and 4 more"


@pytest.mark.parametrize(
    "error",
    [TransientError("no", written=4), TransientError("no", written=-1), RejectedError("no", written=3)],
)
async def test_an_impossible_count_is_no_way_out(error: Exception) -> None:
    class Impossible(good_sink.GoodSink):
        async def write(self, events: Any) -> None:
            raise error

    sink = Impossible(good_sink.Config(store="none"), make_context())
    with pytest.raises(AssertionError, match=r"S5: written=.* of 3 events cannot be"):
        await deliver(sink, [make_event(number) for number in range(3)], refused=[])


async def test_a_call_that_never_ends_is_named() -> None:
    with pytest.raises(AssertionError, match=r"open took longer than 0\.01 s"):
        await outcome(asyncio.Event().wait(), seconds=0.01, what="open")


async def test_a_free_loop_has_no_long_pause() -> None:
    tries = []
    for _ in range(3):  # a machine may be busy for a moment
        async with pauses() as found:
            await asyncio.to_thread(sum, range(1000))
        tries.append(found.longest)
    assert min(tries) < 0.5


def test_importing_a_module_is_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_of_a_plugin.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with input_and_output() as seen:
        __import__("module_of_a_plugin")
    assert not seen


class Inner(SinkConfig, frozen=True, forbid_unknown_fields=False):
    user: str = ""


class Outer(SinkConfig, frozen=True):
    api_key: Annotated[str | None, Meta(description="Secret.")] = None
    key_file: Annotated[str, Meta(description="Path.")] = ""
    tokens: Annotated[int, Meta(description="A number.")] = 0
    inner: Annotated[dict[str, list[Inner]], Meta(description="Tables.")] = {}  # noqa: RUF012
    mute: Inner | None = None


def test_secrets_are_known_by_their_names() -> None:
    assert disclosure.secret_settings(Outer()) == ["api_key"]
    assert disclosure.with_secrets(Outer(), "x").api_key == "x"


def test_settings_inside_of_settings_are_looked_at() -> None:
    assert disclosure.undescribed(Outer) == ["inner.user", "mute", "mute.user"]
    assert disclosure.open_tables(Outer) == ["Inner", "Inner"]
    assert disclosure.accepts(Outer(), inner={"a": [{"user": "x"}]})


def test_a_contract_without_its_config_says_so(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(
        "from kexport import SinkConfig, SinkType\nfrom kexport.testing import SinkContract\n"
        "class TestIt(SinkContract[SinkConfig]):\n"
        "    sink_type = SinkType('x', SinkConfig, lambda config, context: None)\n"
        "    async def stored(self, config): return []\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", path, "-q", "-p", "no:cacheprovider", "-k", "unknown_setting"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "TestIt needs a fixture `config`" in run.stdout
