"""A condition that can't be used is refused where it is wrong, with the way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kexport.condition import Where
from kexport.errors import ConfigError

ROOT = Path(__file__).parent.parent
STARTSWITH = "object.a.startswith('x')\n         ^"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "object.spec.replicas >",
            "line 1, column 23: the expression ends too early\nobject.spec.replicas >\n" + " " * 22 + "^",
        ),
        (
            "objekt.a == 1",
            "line 1, column 1: unknown name 'objekt', did you mean 'object'?\nobjekt.a == 1\n^",
        ),
        (
            "true &&\n  evnt.type == 'x'",
            "line 2, column 3: unknown name 'evnt', did you mean 'event'?\n  evnt.type == 'x'\n  ^",
        ),
        (
            STARTSWITH.partition("\n")[0],
            f"line 1, column 10: unknown name 'startswith', did you mean 'startsWith'?\n{STARTSWITH}",
        ),
        (
            "event.exist(c, c.a)",
            "line 1, column 7: unknown name 'exist', did you mean 'exists'?\nevent.exist(c, c.a)\n      ^",
        ),
        ("1 + 1", "gives INT, where true or false is needed:\n1 + 1"),
        ("object.a b", "line 1, column 10: Syntax error: extraneous input 'b'\nobject.a b\n         ^"),
        (
            "(" * 40 + "true" + ")" * 40,
            "is no CEL expression: Expression recursion limit exceeded. limit: 32",
        ),
    ],
)
def test_a_mistake_is_shown_at_its_place(text, message):
    with pytest.raises(ConfigError) as caught:
        Where(text)
    assert str(caught.value) == message


def test_an_attribute_that_no_event_has_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError) as caught:
        Where("true &&\n event.typ == 'x'")
    message = str(caught.value)
    assert message.startswith("line 2, column 8: event has no 'typ', did you mean 'type'?; it has change, ")
    assert message.endswith("\n event.typ == 'x'\n       ^")


def test_without_the_extra_a_condition_is_refused_with_the_way_out():
    code = (
        "import sys\nsys.modules['cel_expr_python'] = None\nfrom kexport import config, plugins\n"
        'text = \'[[resources]]\\nresource = "pods"\\n[[routes]]\\nsinks = ["a"]\\nwhere = "true"\\n\'\n'
        'text += \'[sinks.a]\\ntype = "file"\\npath = "x"\'\n'
        "try:\n    config.parse(text, plugins.load().types)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    problem = "needs the CEL evaluator, which is not here: pip install 'kexport[cel]'"
    assert run.stdout == f"ConfigError routes[0].where: {problem}\n"
