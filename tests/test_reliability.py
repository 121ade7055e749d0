"""RELIABILITY.md names the tests that show what it says: they exist, and run where it says, unskipped."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "RELIABILITY.md").read_text(encoding="utf-8")
SHARED = {"informer_cases.py", "gap_cases.py", "scenario_cases.py", "server_cases.py"}
_LEFT_OUT = re.compile(r"mark\.(?:skip|xfail)|pytest\.(?:skip|xfail|importorskip)")
_NAMED = re.compile(r"((?:`test_\w+`(?:, )?)+) \(([\w/.-]+)\)")


class Row(NamedTuple):
    """A row of a table: its number, and the tests that it names, as (file, name)."""

    number: str
    tests: set[tuple[str, str]]
    where: str


def rows() -> list[Row]:
    found = []
    for line in PAGE.splitlines():
        if number := re.match(r"\| (R?\d+) \|", line):
            named = _NAMED.findall(line)
            tests = {(file, name) for names, file in named for name in re.findall(r"`(test_\w+)`", names)}
            assert len(tests) == len(re.findall(r"`test_\w+`", line)), f"a test without its file: {line}"
            found.append(Row(number[1], tests, line.split("|")[-2].strip()))
    return found


def named_in_the_tree() -> set[tuple[str, str]]:
    """Every test, as (file, name)."""
    found: set[tuple[str, str]] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        file = path.relative_to(ROOT / "tests").as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add((file, node.name))
    return found


ROWS = rows()
TESTS = named_in_the_tree()


def test_every_scenario_and_every_rule_has_its_row() -> None:
    expected = [*(str(n) for n in range(1, 46)), *(f"R{n}" for n in range(1, 21))]
    assert [row.number for row in ROWS] == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_the_tests_of_a_row_exist(row: Row) -> None:
    assert row.tests, "a row needs a test"
    for test in sorted(row.tests):
        assert test in TESTS, f"{test[0]} has no {test[1]}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_the_tests_of_a_row_run_where_it_says(row: Row) -> None:
    places = set()
    for file, _ in row.tests:
        if file in SHARED:
            places |= {"fake", "real"}
        else:
            places.add("real" if file.startswith("live/") else "fake")
    assert row.where == ("both" if len(places) == 2 else places.pop())


@pytest.mark.parametrize("number", range(1, 46))
def test_a_scenario_names_every_test_that_has_its_number(number: int) -> None:
    (row,) = [row for row in ROWS if row.number == str(number)]
    numbered = {test for test in TESTS if str(number) in _numbers(test[1])}
    assert numbered, f"no test has scenario_{number} in its name"
    assert numbered <= row.tests


def test_what_is_shared_runs_on_both_servers() -> None:
    for file in sorted(SHARED):
        classes = re.findall(
            r"^class (\w+Cases)", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE
        )
        assert classes
        for runner in ("test_informer.py", "live/test_informer_live.py"):
            text = (ROOT / "tests" / runner).read_text(encoding="utf-8")
            for name in classes:
                assert re.search(rf"^class Test\w+\({name}\)", text, re.MULTILINE), (
                    f"{runner} does not run {name}"
                )


def test_nothing_that_the_page_names_is_skipped() -> None:
    for file in sorted({file for row in ROWS for file, _ in row.tests}):
        found = _LEFT_OUT.search((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert not found, f"{file}: {found[0]}"


def _numbers(name: str) -> list[str]:
    """`test_scenario_15_…_and_16_…` shows both."""
    return re.findall(r"_(?:scenario|and)_(\d+)(?=_)", name) if "_scenario_" in name else []
