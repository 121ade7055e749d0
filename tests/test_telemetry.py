"""Log lines: a constant sentence plus fields, in two forms, and no secret in either."""

import json
import logging

import pytest

from kexport.telemetry import JsonFormatter, Log, TextFormatter, get_log, set_up_logs


class Lines(logging.Handler):
    """Keeps what a formatter makes of each record."""

    def __init__(self, formatter):
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def logger():
    logger = logging.getLogger("kexport.test_telemetry")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def say(logger):
    """Log one line with a formatter, and get it back."""

    def say(formatter, level="info", sentence="it happened", **fields):
        handler = Lines(formatter)
        logger.addHandler(handler)
        getattr(Log(logger), level)(sentence, **fields)
        return handler.lines[0]

    return say


@pytest.fixture
def _logging_as_before():
    root, ours = logging.getLogger(), logging.getLogger("kexport")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_a_text_line_is_time_level_sentence_and_fields(say):
    line = say(TextFormatter({}), stream="pods/*", count=3)
    stamp, rest = line.split(" ", 1)
    assert stamp.endswith("Z")
    assert rest == "INFO    it happened stream=pods/* count=3"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ("", '""'),
        ('say "x"', '"say \\"x\\""'),
        ("a\nb", '"a\\nb"'),
    ],
)
def test_a_field_that_could_be_misread_is_quoted(say, value, shown):
    assert say(TextFormatter({}), field=value).endswith(f" field={shown}")


def test_a_json_line_has_the_fields_as_members(say):
    entry = json.loads(say(JsonFormatter({}), "warning", stream="pods/*", count=3, on=True, none=None))
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning",
        "logger": "kexport.test_telemetry",
        "message": "it happened",
        "stream": "pods/*",
        "count": 3,
        "on": True,
        "none": None,
    }


def test_a_json_line_is_one_line_whatever_the_fields_hold(say):
    assert "\n" not in say(JsonFormatter({}), error=ValueError("two\nlines"))


@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
@pytest.mark.parametrize("secret", ["hunter2", "two words", 'quo"ted one', "back\\slash =", "two\nlines"])
def test_a_secret_is_shown_as_its_name(say, formatter, secret):
    line = say(formatter({secret: "${KX_SECRET}"}), why=f"login with {secret} failed")
    shown = json.loads(line)["why"] if formatter is JsonFormatter else line
    assert "login with ${KX_SECRET} failed" in shown


@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
def test_a_secret_in_a_traceback_is_shown_as_its_name(logger, formatter):
    handler = Lines(formatter({"hunter2": "${KX_SECRET}"}))
    logger.addHandler(handler)
    try:
        raise ValueError("wrong password hunter2")  # noqa: TRY301
    except ValueError as error:
        Log(logger).exception("unexpected error", error)
    assert "hunter2" not in handler.lines[0]
    assert "Traceback" in handler.lines[0]
    assert "ValueError: wrong password ${KX_SECRET}" in handler.lines[0]


def test_a_secret_within_another_does_not_leave_half_of_it(say):
    line = say(TextFormatter({"abc": "${SHORT}", "abcdef": "${LONG}"}), a="abcdef", b="abc")
    assert line.endswith(" a=${LONG} b=${SHORT}")


def test_bound_fields_are_on_every_line(logger):
    handler = Lines(TextFormatter({}))
    logger.addHandler(handler)
    log = Log(logger, sink="audit").bind(broker="b1")
    log.info("one", count=1)
    log.error("two")
    assert handler.lines[0].endswith("one sink=audit broker=b1 count=1")
    assert handler.lines[1].endswith("two sink=audit broker=b1")


def test_binding_leaves_the_log_that_it_came_from_alone(logger):
    handler = Lines(TextFormatter({}))
    logger.addHandler(handler)
    log = Log(logger)
    log.bind(sink="audit")
    log.info("one")
    assert handler.lines[0].endswith("one")


def test_a_field_bound_again_has_its_new_value(logger):
    handler = Lines(TextFormatter({}))
    logger.addHandler(handler)
    Log(logger, broker="b1").bind(broker="b2").info("one")
    assert handler.lines[0].endswith("one broker=b2")


def test_a_field_of_the_line_replaces_a_bound_one(logger):
    handler = Lines(TextFormatter({}))
    logger.addHandler(handler)
    Log(logger, broker="b1").info("one", broker="b2")
    assert handler.lines[0].endswith("one broker=b2")


def test_lines_below_the_level_are_not_written(logger):
    handler = Lines(TextFormatter({}))
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    Log(logger).info("one")
    Log(logger).debug("two")
    assert handler.lines == []


@pytest.mark.usefixtures("_logging_as_before")
def test_logs_go_to_standard_error_and_leave_standard_output_to_events(capsys):
    set_up_logs(style="json", masks={"hunter2": "${KX_SECRET}"})
    get_log("sink", sink="audit").warning("broker went away", password="hunter2")
    out, err = capsys.readouterr()
    assert out == ""
    entry = json.loads(err)
    assert (entry["logger"], entry["sink"], entry["password"]) == ("kexport.sink", "audit", "${KX_SECRET}")


@pytest.mark.usefixtures("_logging_as_before")
def test_the_level_is_kexports_and_libraries_speak_from_warning_on(capsys):
    set_up_logs(level="debug")
    get_log("kube").debug("ours")
    logging.getLogger("some.library").info("theirs")
    logging.getLogger("some.library").warning("their trouble")
    err = capsys.readouterr().err
    assert "ours" in err
    assert "theirs" not in err
    assert "their trouble" in err


@pytest.mark.usefixtures("_logging_as_before")
def test_setting_up_twice_writes_each_line_once(capsys):
    set_up_logs()
    set_up_logs()
    get_log("x").info("once")
    assert capsys.readouterr().err.count("once") == 1
