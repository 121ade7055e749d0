"""What plugins may rely on: a frozen list of names, which is also all that our own plugins use."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import kexport
import kexport.testing
from kexport import BatchConfig, RejectedError, Sink, SinkContext, SinkType, TransientError
from kexport.errors import ConfigError, KexportError, SinkError
from kexport.hookspecs import API_VERSION

PLUGINS = Path(__file__).parent.parent / "plugins"
MODULES = sorted(PLUGINS.glob("*/kexport_*/**/*.py"))


def imports(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each imported module with the names taken from it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            yield str(node.module), tuple(alias.name for alias in node.names)


def test_the_public_names_are_these():
    assert kexport.__all__ == [
        "BatchConfig",
        "ConfigError",
        "Event",
        "RejectedError",
        "Sink",
        "SinkConfig",
        "SinkContext",
        "SinkType",
        "TransientError",
        "hookimpl",
    ]


def test_the_plugin_api_is_1_and_who_says_nothing_means_that_one():
    """Another number refuses every plugin that is there: it changes when one of them would break."""
    assert API_VERSION == "1"


@pytest.mark.parametrize("name", kexport.__all__)
def test_every_public_name_is_there(name):
    assert getattr(kexport, name) is not None


def test_there_are_plugins_to_look_at():
    assert {path.parent.name for path in MODULES} >= {"kexport_file", "kexport_kafka"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_plugin_uses_nothing_of_kexport_but_its_public_names(path):
    for module, names in imports(path):
        assert not module.startswith("kexport."), f"{path}: {module} is not public"
        if module == "kexport":
            assert set(names) <= set(kexport.__all__), f"{path}: not public"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_plugin_knows_no_other_plugin(path):
    own = path.relative_to(PLUGINS).parts[1]
    for module, _ in imports(path):
        top = module.partition(".")[0]
        assert not top.startswith("kexport_") or top == own


def test_a_sink_has_one_method_to_write():
    assert Sink.__abstractmethods__ == {"write"}
    assert [name for name, _ in inspect.getmembers(Sink, inspect.isfunction)] == ["close", "open", "write"]


async def test_open_and_close_may_be_left_as_they_are():
    class Nowhere(Sink):
        async def write(self, events):
            pass

    sink = Nowhere()
    await sink.open()
    await sink.close()
    await sink.close()


def test_a_sink_is_told_its_name_cluster_and_log():
    assert SinkContext._fields == ("name", "cluster", "log")


def test_a_sink_type_without_batch_has_the_usual_one():
    kind = SinkType("x", kexport.SinkConfig, lambda config, context: pytest.fail("not built here"))
    assert kind.batch == BatchConfig(max_events=1000, max_bytes=8_000_000, max_wait_seconds=0)
    assert repr(kind) == "SinkType('x', SinkConfig)"


@pytest.mark.parametrize("error", [TransientError, RejectedError])
def test_a_sink_error_says_how_much_is_written(error):
    assert error("no").written == 0
    assert error("no", written=3).written == 3
    assert issubclass(error, SinkError)


def test_a_transient_error_may_say_when_to_try_again():
    assert TransientError("no").retry_after is None
    assert TransientError("no", retry_after=5).retry_after == 5


def test_all_errors_have_one_root():
    assert all(issubclass(error, KexportError) for error in (ConfigError, TransientError, RejectedError))


@pytest.mark.parametrize("name", kexport.testing.__all__)
def test_every_name_of_the_test_kit_is_there(name):
    assert getattr(kexport.testing, name) is not None
