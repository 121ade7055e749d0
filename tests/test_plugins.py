"""Plugins come in through one door; a broken one is reported and costs nobody else anything."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kexport import Sink, SinkConfig, SinkType, hookimpl
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
