"""The real servers for the live tests, as `make live` has built them; a missing one is a failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.testbed import Cluster, Collector, Kafka, NotBuiltError, S3Server
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


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """A Collector of its own."""
    with Collector(tmp_path / "collector") as running:
        yield running


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    """A server of its own, with the bucket "lake"."""
    server = S3Server(tmp_path / "s3")
    server.make_bucket("lake")
    with server as running:
        yield running


def _cluster(folders: pytest.TempPathFactory, release: Part = KUBERNETES) -> Iterator[Cluster]:
    with Cluster(folders.mktemp("cluster"), release=release) as running:
        yield running


def _kafka(folders: pytest.TempPathFactory) -> Iterator[Kafka]:
    with Kafka(folders.mktemp("kafka")) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    yield from _missing_servers_told()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    yield from _missing_servers_told()


def _missing_servers_told() -> Generator[None, None, None]:
    """What was not built fails a test in its own words, which say how to build it."""
    try:
        yield
    except NotBuiltError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests measured, which several workers can't print as they go."""
    for report in terminalreporter.getreports("passed"):
        if report.capstdout.strip():
            terminalreporter.write_line(f"{report.nodeid}\n{report.capstdout.strip()}\n")
