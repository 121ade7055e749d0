import io

import pytest

from kexport.terminal import mask, paint, plain, table, takes_colour


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web-1", "web-1"),
        ("a\x1b[31mred\x1b[0m", "a[31mred[0m"),
        ("\x1b]0;title\x07x", "]0;titlex"),
        ("csi \x9b2J", "csi 2J"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("abc\u202edcba", "abcdcba"),
        ("Grüße 日本 €", "Grüße 日本 €"),
        ("\ud800x", "x"),
    ],
)
def test_nothing_that_acts_on_a_terminal_gets_through(text: str, shown: str):
    assert plain(text) == shown


def test_columns_are_as_wide_as_their_widest_cell():
    assert table([["A", "B"], ["long\x1b", "x"]]) == "A      B\nlong   x"


def test_colour_is_for_terminals_of_people_who_want_it(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert takes_colour(Terminal())
    assert not takes_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not takes_colour(Terminal())
    assert paint("+", "green", coloured=False) == "+"


def test_secrets_are_masked_longest_first():
    secrets = {"hunter22": "${SHORT}", "hunter22-long": "${LONG}", "ab": "${TOO_SHORT}"}
    assert mask("ab hunter22-long hunter22", secrets) == "ab ${LONG} ${SHORT}"
