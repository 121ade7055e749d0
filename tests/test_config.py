"""config.toml: what the defaults are, and that every refusal names the place, the problem and the way out."""

import re
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from kexport.config import load, parse
from kexport.errors import ConfigError
from kexport.sink import BatchConfig, Sink, SinkConfig, SinkType
from kexport.tables import RetryConfig


class BinConfig(SinkConfig, frozen=True, kw_only=True):
    topic: Annotated[str, Meta(min_length=1, description="Where to.")]
    password: Annotated[str, Meta(description="To get in.")] = ""
    acks: Annotated[Literal["all", "one"], Meta(description="Whose answer to wait for.")] = "all"


class Bin(Sink):
    def __init__(self, config, context):
        pass

    async def write(self, events):
        pass


class GreedyConfig(SinkConfig, frozen=True, kw_only=True):
    retry: Annotated[int, Meta(description="A name that the engine owns.")] = 1
    rejects_to: Annotated[int, Meta(description="Another one.")] = 1


TYPES: dict[str, SinkType[Any]] = {
    "bin": SinkType(
        "bin", BinConfig, Bin, batch=BatchConfig(max_events=7, max_bytes=77, max_wait_seconds=0.7)
    ),
    "greedy": SinkType("greedy", GreedyConfig, Bin),
}
PODS = '[[resources]]\nresource = "pods"\n'
AUDIT = '[sinks.audit]\ntype = "bin"\ntopic = "t"\n'


def accept(text):
    return parse(text, TYPES)


def refuse(text):
    with pytest.raises(ConfigError) as caught:
        parse(text, TYPES)
    return str(caught.value)


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("KX_SECRET", "hunter2")
    return "hunter2"


def test_a_resource_and_a_sink_are_enough():
    config = accept(PODS + AUDIT)
    assert [each.resource for each in config.root.resources] == ["pods"]
    assert list(config.sinks) == ["audit"]
    assert config.secrets == {}


def test_the_same_text_is_the_same_configuration():
    assert accept(PODS + AUDIT) == accept(PODS + AUDIT)


def test_defaults_are_as_documented():
    root = accept(PODS + AUDIT).root
    assert (root.cluster.name, root.cluster.kubeconfig, root.cluster.context) == ("", "", "")
    assert (root.journal.path, root.journal.max_bytes) == ("kexport-state", 4_294_967_296)
    assert (root.journal.keep_seconds, root.journal.when_full) == (3600, "pause")
    assert (root.resources[0].namespaces, root.resources[0].label_selector) == ((), "")
    assert (root.resources[0].initial, root.transforms, root.routes) == ("emit", (), ())


def test_a_sinks_defaults_are_the_engines_and_its_types_own():
    sink = accept(PODS + AUDIT).sinks["audit"]
    assert (sink.name, sink.type, sink.rejects_to) == ("audit", TYPES["bin"], "")
    assert (sink.batch, sink.retry) == (TYPES["bin"].batch, RetryConfig())
    assert sink.config.topic == "t"
    assert isinstance(sink.config, BinConfig)


def test_a_batch_given_in_part_keeps_the_types_default_for_the_rest():
    batch = accept(PODS + AUDIT + "batch = { max_events = 500 }").sinks["audit"].batch
    assert batch == BatchConfig(max_events=500, max_bytes=77, max_wait_seconds=0.7)


def test_a_batch_value_equal_to_the_engines_default_still_counts():
    batch = accept(PODS + AUDIT + "batch = { max_events = 1000 }").sinks["audit"].batch
    assert batch.max_events == 1000


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("cluste = 1\n" + PODS + AUDIT, "unknown key 'cluste', did you mean 'cluster'?"),
        (PODS + AUDIT + '[cluster]\nnam = "x"', "cluster: unknown key 'nam', did you mean 'name'?"),
        (PODS + 'label_selectr = "a"\n' + AUDIT, "resources[0]: unknown key 'label_selectr', did you mean"),
        (PODS + AUDIT + "[[routes]]\nsink = []", "routes[0]: unknown key 'sink', did you mean 'sinks'?"),
        (PODS + AUDIT + 'topik = "t"', "sinks.audit: unknown key 'topik', did you mean 'topic'?"),
        (
            PODS + AUDIT + "batch = { max_event = 1 }",
            "sinks.audit.batch: unknown key 'max_event', did you mean 'max_events'?",
        ),
        (PODS + AUDIT + "[sinks.audit.retry]\nmin_second = 1", "sinks.audit.retry: unknown key 'min_second'"),
    ],
)
def test_an_unknown_key_is_refused_at_any_depth_with_a_suggestion(text, start):
    message = refuse(text)
    assert message.startswith(start)
    assert "; known: " in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            PODS + AUDIT + '[journal]\nmax_bytes = "4 GiB"',
            "journal.max_bytes: expected an integer, got a string",
        ),
        (PODS + AUDIT + "[journal]\nmax_bytes = 1", "journal.max_bytes: expected an integer >= 1048576"),
        (
            PODS + AUDIT + 'timeout_seconds = "1m"',
            "sinks.audit.timeout_seconds: expected a number, got a string",
        ),
        (
            PODS + AUDIT + "batch = { max_events = 0 }",
            "sinks.audit.batch.max_events: expected an integer >= 1",
        ),
        (PODS + AUDIT + "batch = 5", "sinks.audit.batch: expected a table, got an integer"),
        (
            PODS + "namespaces = [1]\n" + AUDIT,
            "resources[0].namespaces[0]: expected a string, got an integer",
        ),
        (PODS + "sinks = 3", "resources[0]: unknown key 'sinks'"),
        ("sinks = 3\n" + PODS, "sinks: expected a table, got an integer"),
        ("resources = [1]\n" + AUDIT, "resources[0]: expected a table, got an integer"),
        (AUDIT + "[[resources]]", "resources[0]: the key 'resource' is missing"),
        (PODS + '[sinks.audit]\ntype = "bin"', "sinks.audit: the key 'topic' is missing"),
        (AUDIT, "the key 'resources' is missing"),
        (PODS, "the key 'sinks' is missing"),
        ("resources = []\n" + AUDIT, "resources: expected an array of length >= 1"),
        (
            "resources = {}\n" + AUDIT,
            "resources: expected an array, got a table; write [[resources]], a table",
        ),
        (PODS + "[[sinks]]", "sinks: expected a table, got an array; write [sinks.NAME], a table for each"),
        (
            PODS + AUDIT + "[journal]\nkeep_seconds = '1h'",
            "journal.keep_seconds: expected a number, got a string; the unit",
        ),
        (PODS + AUDIT + "[http]\nlisten = '9273'", "http.listen: expected a string matching regex"),
        (PODS + AUDIT + "[http]\nlisten = 'a:99273'", "http.listen: port 99273 is above 65535"),
        (
            PODS + "diff = 'yes'\n" + AUDIT,
            "resources[0].diff: unknown choice 'yes'; choices: true, false, 'patch'",
        ),
        (
            PODS + AUDIT + "[[routes]]\nsinks = ['audit']\nchanges = ['create']",
            "routes[0].changes[0]: unknown choice 'create'; choices: 'added', 'modified'",
        ),
        (PODS + "[sinks]", "sinks: expected a table of length >= 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place_and_what_would(text, message):
    assert refuse(text).startswith(message)


def test_a_wrong_choice_is_refused_with_the_choices():
    message = refuse(PODS + AUDIT + '[journal]\nwhen_full = "stop"')
    assert message == "journal.when_full: unknown choice 'stop'; choices: 'pause', 'drop_oldest'"


def test_a_sink_without_type_is_refused_with_what_is_installed():
    message = refuse(PODS + "[sinks.audit]\ntopic = 't'")
    assert message == 'sinks.audit: needs type = "…", one of: bin, greedy'


def test_an_unknown_sink_type_is_refused_with_a_suggestion_and_what_is_installed():
    message = refuse(PODS + '[sinks.audit]\ntype = "bim"')
    assert message.startswith("sinks.audit.type: unknown sink type 'bim', did you mean 'bin'?")
    assert "installed: bin, greedy" in message
    assert "pip install kexport-bim" in message


def test_no_installed_sink_type_at_all_is_said():
    with pytest.raises(ConfigError, match="installed: none"):
        parse(PODS + AUDIT, {})


def test_a_type_that_claims_the_engines_settings_is_refused():
    message = refuse(PODS + '[sinks.a]\ntype = "greedy"')
    assert message.startswith(
        "sink type 'greedy' declares settings that the engine owns: rejects_to, retry; give"
    )


def test_rejects_to_an_unknown_sink_is_refused_with_a_suggestion():
    message = refuse(PODS + AUDIT + 'rejects_to = "adit"')
    assert message == "sinks.audit.rejects_to: no sink named 'adit', did you mean 'audit'?"


def test_rejects_to_itself_is_refused():
    message = refuse(PODS + AUDIT + 'rejects_to = "audit"')
    assert message == "sinks.audit.rejects_to: goes round in a circle: audit -> audit"


def test_rejects_in_a_wider_circle_are_refused():
    def sink(name, target):
        return f'[sinks.{name}]\ntype = "bin"\ntopic = "t"\nrejects_to = "{target}"\n'

    message = refuse(PODS + sink("a", "b") + sink("b", "c") + sink("c", "a"))
    assert message == "sinks.c.rejects_to: goes round in a circle: a -> b -> c -> a"


def test_rejects_may_go_through_several_sinks_to_an_end():
    text = AUDIT + 'rejects_to = "b"\n[sinks.b]\ntype = "bin"\ntopic = "t"\n'
    assert accept(PODS + text).sinks["audit"].rejects_to == "b"


def test_a_route_to_an_unknown_sink_is_refused_with_its_number():
    message = refuse(PODS + AUDIT + '[[routes]]\nsinks = ["audit"]\n[[routes]]\nsinks = ["adit"]')
    assert message == "routes[1].sinks: no sink named 'adit', did you mean 'audit'?"


def test_a_route_to_no_sink_is_refused():
    assert refuse(PODS + AUDIT + "[[routes]]\nsinks = []").startswith("routes[0].sinks: ")


def test_an_unset_variable_is_refused_with_its_place(monkeypatch):
    monkeypatch.delenv("KX_UNSET", raising=False)
    message = refuse(PODS + AUDIT + 'password = "${KX_UNSET}"')
    assert message == "sinks.audit.password: the environment has no variable KX_UNSET; set it"


def test_a_missing_secret_file_is_refused_with_its_place(tmp_path):
    message = refuse(PODS + AUDIT + f'password = "${{file:{tmp_path}/no}}"')
    assert message.startswith(f"sinks.audit.password: cannot read ${{file:{tmp_path}/no}}")


def test_a_variables_value_reaches_the_sink_and_is_known_as_secret(secret):
    config = accept(PODS + AUDIT + 'password = "${KX_SECRET}"')
    assert config.sinks["audit"].config.password == secret
    assert config.secrets == {secret: "${KX_SECRET}"}


def test_a_sinks_settings_show_themselves_without_values(secret):
    settings = accept(PODS + AUDIT + 'password = "${KX_SECRET}"').sinks["audit"]
    assert secret not in repr(settings)
    assert secret not in str(settings.config)
    assert "password" in repr(settings.config)


@pytest.mark.parametrize(
    "text",
    [
        PODS + AUDIT + 'acks = "${KX_SECRET}"',
        PODS + AUDIT + 'rejects_to = "${KX_SECRET}"',
        PODS + '[sinks.audit]\ntype = "${KX_SECRET}"',
    ],
    ids=["choice", "name", "type"],
)
def test_no_refusal_shows_the_value_of_a_variable(text, secret):
    assert secret not in refuse(text)


def test_broken_toml_is_refused_with_line_and_column():
    assert re.search(r"is not valid TOML: .*line 2", refuse("[cluster]\nname = = 1"))


def test_a_file_is_read_and_named_in_every_refusal(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(PODS + AUDIT, encoding="utf-8")
    assert list(load(path, TYPES).sinks) == ["audit"]
    path.write_text(PODS + AUDIT + "x = 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.toml: sinks\.audit: unknown key 'x'"):
        load(path, TYPES)


def test_a_byte_order_mark_is_left_out(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("\ufeff" + PODS + AUDIT, encoding="utf-8")
    assert list(load(path, TYPES).sinks) == ["audit"]


def test_a_missing_file_is_refused_with_its_path(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml", TYPES)


def test_a_file_that_is_not_utf8_is_refused_with_the_byte(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"config\.toml: is not UTF-8: .* at byte 8"):
        load(path, TYPES)
