"""The real servers for the live tests, as `make live` has built them; a missing one is a failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed import Cluster, Kafka, NotBuiltError
from tests.testbed.recipes import KUBERNETES, KUBERNETES_OLDEST, Part

# Those that take a minute and more, the longest first, so that nobody is left alone with them at the end.
LONGEST = (
    "sinks",
    "outage",
    "chaos",
    "chart_image",
    "chart",
    "oldest",
    "informer",
    "recovery",
    "kill",
    "disk",
)


@pytest.hookimpl(trylast=True)  # after they were shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}_live": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One control plane for all tests that leave its servers running; use a namespace each."""
    yield from _cluster(tmp_path_factory)


@pytest.fixture(scope="session")
def oldest_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """As `cluster`, of the oldest release that kexport is for."""
    yield from _cluster(tmp_path_factory, KUBERNETES_OLDEST)


@pytest.fixture
def fresh_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own, for a test that stops, kills or pauses a server."""
    yield from _cluster(tmp_path_factory)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker for all tests that leave it running; use a topic each."""
    yield from _kafka(tmp_path_factory)


@pytest.fixture
def fresh_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker of its own, for a test that stops, kills or pauses it."""
    yield from _kafka(tmp_path_factory)


def _cluster(folders: pytest.TempPathFactory, release: Part = KUBERNETES) -> Iterator[Cluster]:
    try:
        made = Cluster(folders.mktemp("cluster"), release=release)
    except NotBuiltError as error:
        pytest.fail(str(error), pytrace=False)
    with made as running:
        yield running


def _kafka(folders: pytest.TempPathFactory) -> Iterator[Kafka]:
    try:
        made = Kafka(folders.mktemp("kafka"))
    except NotBuiltError as error:
        pytest.fail(str(error), pytrace=False)
    with made as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests measured, which several workers can't print as they go."""
    for report in terminalreporter.getreports("passed"):
        if report.capstdout.strip():
            terminalreporter.write_line(f"{report.nodeid}\n{report.capstdout.strip()}\n")
