"""Plugins come in through one door; a broken one is reported and costs nobody else anything."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kexport import Sink, SinkConfig, SinkType, __version__, hookimpl
from kexport.errors import ConfigError
from kexport.plugins import load

GOOD = """
from kexport import SinkConfig, SinkType, hookimpl

@hookimpl
def kexport_sinks():
    return [SinkType(name, SinkConfig, lambda config, context: None) for name in {names!r}]
"""
Install = Callable[[str, str], None]


class Nowhere(Sink):
    def __init__(self, config, context):
        pass

    async def write(self, events):
        pass


class Plugin:
    """A plugin as an object, for `load(extra)`."""

    def __init__(self, *names: str) -> None:
        self._names = names

    @hookimpl
    def kexport_sinks(self):
        return [SinkType(name, SinkConfig, Nowhere) for name in self._names]


@pytest.fixture
def install(tmp_path: Path, monkeypatch) -> Install:
    """Install a distribution of one module, entry point and all, as pip would lay it out."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, source: str) -> None:
        module = f"kx_{tmp_path.name.replace('-', '_')}_{name}"
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        info = tmp_path / f"kexport_{name}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kexport-{name}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(f"[kexport]\n{name} = {module}\n")

    return install


def problem(name):
    return load().problems[name]


@pytest.mark.parametrize("name", ["file", "kafka"])
def test_the_first_party_sinks_come_through_the_same_door(name):
    plugins = load()
    assert name in plugins.types, plugins.problems
    (plugin,) = [each for each in plugins.found if each.name == name]
    assert plugin.distribution == f"kexport-{name}"


def test_an_installed_plugin_is_found_with_its_distribution(install):
    install("good", GOOD.format(names=["one", "two"]))
    plugins = load()
    (plugin,) = [each for each in plugins.found if each.name == "good"]
    assert (plugin.distribution, plugin.version, plugin.problem) == ("kexport-good", "2.5", "")
    assert [kind.name for kind in plugin.sinks] == ["one", "two"]
    assert {"one", "two"} <= set(plugins.types)


def test_a_plugin_given_by_hand_is_loaded_too():
    assert load(Plugin("by-hand")).types["by-hand"].config is SinkConfig


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_library_at_all", "ModuleNotFoundError: No module named 'no_such_library_at_all'"),
        ("raise RuntimeError('bad start')", "RuntimeError: bad start"),
        ("def (", "SyntaxError"),
        ("x = 1", "has no @hookimpl def kexport_sinks()"),
        ("def kexport_sinks(): return []", "has no @hookimpl def kexport_sinks()"),
        ("from kexport import hookimpl\n@hookimpl\ndef kexport_sinks(): raise OSError('no')", "OSError: no"),
        ("from kexport import hookimpl\n@hookimpl\ndef kexport_sinks(): return 5", "TypeError"),
        ("from kexport import hookimpl\n@hookimpl\ndef kexport_sinks(x): return []", "kexport_sinks"),
        ("from kexport import hookimpl\n@hookimpl\ndef kexport_sink(): return []", "kexport_sink"),
        ("raise SystemExit('go away')", "SystemExit: go away"),
    ],
)
def test_a_broken_plugin_is_reported_and_the_others_load(install, source, said):
    install("broken", source)
    install("good", GOOD.format(names=["one"]))
    plugins = load()
    assert said in plugins.problems["broken"]
    assert "one" in plugins.types


def test_a_plugin_that_offers_something_else_than_sink_types_is_reported(install):
    install("odd", "from kexport import hookimpl\n@hookimpl\ndef kexport_sinks(): return [object()]")
    assert problem("odd")


def test_a_reported_plugin_still_says_where_it_came_from(install):
    install("broken", "raise RuntimeError('bad start')")
    (plugin,) = [each for each in load().found if each.name == "broken"]
    assert (plugin.distribution, plugin.version, plugin.sinks) == ("kexport-broken", "2.5", ())


def test_a_misspelt_hook_is_called_unknown(install):
    install("misspelt", "from kexport import hookimpl\n@hookimpl\ndef kexport_sink(): return []")
    assert "unknown hook 'kexport_sink'" in problem("misspelt")


def test_two_plugins_with_a_sink_type_of_the_same_name_are_refused(install):
    install("left", GOOD.format(names=["same"]))
    install("right", GOOD.format(names=["same"]))
    with pytest.raises(ConfigError, match="sink type 'same' is offered by both") as caught:
        load()
    assert "kexport-left" in str(caught.value)
    assert "kexport-right" in str(caught.value)
    assert "uninstall one of them" in str(caught.value)


def test_one_plugin_with_a_name_twice_is_refused():
    with pytest.raises(ConfigError, match="sink type 'same'"):
        load(Plugin("same", "same"))


def test_a_plugin_may_offer_no_sink_for_now():
    plugins = load(Plugin())
    assert plugins.found[-1].sinks == ()
    assert plugins.found[-1].problem == ""


def test_something_without_the_hook_is_refused_when_given_by_hand():
    with pytest.raises(ConfigError, match="has no @hookimpl def kexport_sinks"):
        load(SimpleNamespace())


def test_an_installed_plugin_tells_its_api_its_module_and_what_it_owns(install):
    install("good", GOOD.format(names=["one"]))
    (plugin,) = [each for each in load().found if each.name == "good"]
    assert (plugin.api, plugin.allowed, plugin.trace) == ("1", True, "")
    assert plugin.module.endswith("_good")
    assert load().owner("one") == "kexport-good"


@pytest.mark.parametrize(
    ("needed", "way_out"),
    [("'2'", "upgrade kexport"), ("2", "upgrade kexport"), ("'0'", "upgrade kexport-other")],
)
def test_a_plugin_for_another_api_is_refused_and_the_others_load(install, needed, way_out):
    install("other", f"kexport_api = {needed}\n" + GOOD.format(names=["two"]))
    install("good", "kexport_api = '1'\n" + GOOD.format(names=["one"]))
    plugins = load()
    number = needed.strip("'")
    assert plugins.problems["other"] == (
        f"kexport-other 2.5 needs plugin API {number}, kexport {__version__} offers 1: {way_out}"
    )
    assert "one" in plugins.types
    assert "two" not in plugins.types


def test_a_plugin_that_needs_a_name_which_is_not_there_is_told_apart(install):
    install("newer", "from kexport import something_new")
    assert f"it may be made for another kexport than {__version__}, which offers plugin API 1" in problem(
        "newer"
    )
    install("broken", "from json import something_new")
    assert "another kexport" not in problem("broken")


def test_a_broken_plugin_leaves_the_end_of_its_traceback(install):
    install("broken", "def begin():\n    raise RuntimeError('bad start')\nbegin()")
    (plugin,) = [each for each in load().found if each.name == "broken"]
    assert plugin.trace.splitlines()[-1] == "RuntimeError: bad start"
    assert "in begin" in plugin.trace
    assert plugin.trace.count("  File ") <= 3


@pytest.mark.parametrize("listed", ["kexport-good", "x, Kexport_Good ,", "KEXPORT.good"])
def test_only_allowed_distributions_are_imported(install, monkeypatch, tmp_path, listed):
    marker = tmp_path / "imported"
    install("left_out", f"open({str(marker)!r}, 'w').close()\n" + GOOD.format(names=["two"]))
    install("good", GOOD.format(names=["one"]))
    monkeypatch.setenv("KEXPORT_PLUGINS", listed)
    plugins = load()
    assert set(plugins.types) == {"one"}
    assert not marker.exists()
    (plugin,) = [each for each in plugins.found if each.name == "left_out"]
    assert (plugin.allowed, plugin.problem, plugin.version) == (False, "", "2.5")
    assert "not allowed: add it to KEXPORT_PLUGINS" in plugins.absent["left_out"]
    assert set(plugins.problems) == {"x"} & set(listed.split(","))


@pytest.mark.parametrize("listed", ["", " ", ","])
def test_an_empty_list_allows_nothing(monkeypatch, listed):
    monkeypatch.setenv("KEXPORT_PLUGINS", listed)
    plugins = load()
    assert plugins.types == {}
    assert plugins.problems == {}
    assert {"file", "kafka"} <= set(plugins.absent)


def test_an_allowed_name_that_is_not_installed_is_reported(monkeypatch):
    monkeypatch.setenv("KEXPORT_PLUGINS", "kexport-file,kexport-fil,kafka,msgspec")
    problems = load().problems
    assert set(problems) == {"kexport-fil", "kafka", "msgspec"}
    assert "did you mean 'kexport-file'?; install it, or take it off the list" in problems["kexport-fil"]
    assert "did you mean kexport-kafka?" in problems["kafka"]


def test_a_type_that_is_there_is_not_absent(install):
    install("one", "raise RuntimeError('no')")
    install("good", GOOD.format(names=["one"]))
    assert "one" not in load().absent


MISTAKES = """
from kexport import Sink, SinkConfig, SinkType, hookimpl

class Other(SinkConfig, frozen=True): pass
class Astray(SinkConfig, frozen=True):
    count: int = "x"
class Plain: pass
class Fine(Sink):
    async def write(self, events): pass
class Idle(Sink): pass
class Blocking(Sink):
    def write(self, events): pass

@hookimpl
def kexport_sinks():
    return {offered}
"""


@pytest.mark.parametrize(
    ("offered", "says"),
    [
        ('SinkType("bad", Other, Fine)', "returns a SinkType where a list of them belongs: put it into one"),
        ('[SinkType("bad", Plain, Fine)]', "Plain is no subclass of kexport.SinkConfig: make it one"),
        (
            '[SinkType("bad", Astray, Fine)]',
            "the default of count is none: expected an integer, got a string",
        ),
        ('[SinkType("bad", Other, Plain)]', "Plain is no subclass of kexport.Sink: make it one"),
        ('[SinkType("bad", Other, Idle)]', "Idle has no method write: add `async def write(self, events)`"),
        ('[SinkType("bad", Other, Blocking)]', "Blocking.write is no coroutine: write `async def write`"),
    ],
)
def test_an_authors_slip_is_told_before_anything_is_written(install, offered, says):
    install("bad", MISTAKES.format(offered=offered))
    assert says in problem("bad")
    assert "bad" not in load().types
