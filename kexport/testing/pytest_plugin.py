"""Fixtures for the tests of a sink; pytest finds them wherever kexport is installed.

pytest imports this module at every start, in projects that never use it, too: what takes time to import
(the engine, an HTTP server) waits for a test that asks for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kexport.testing.log import SinkLog

if TYPE_CHECKING:
    from kexport.testing.cluster import FakeCluster
    from kexport.testing.exported import Exporting


@pytest.fixture
def sink_log() -> SinkLog:
    """What a sink logs: build it with `make_context(log=sink_log)`.

    `entries` has (level, message, fields), `messages` the sentences alone, `text` all of it as one string.
    """
    return SinkLog()


if find_spec("pytest_asyncio"):
    import pytest_asyncio

    @pytest_asyncio.fixture
    async def fake_cluster() -> AsyncIterator[FakeCluster]:
        """A Kubernetes API server in the process, on real HTTP, which runs until the test ends.

        `fake_cluster.create({...})`, `.patch`, `.delete` change objects; `.restart()`, `.forget()` and the
        like do what happens to real ones.
        """
        from kexport.testing.cluster import FakeCluster  # noqa: PLC0415

        async with FakeCluster() as cluster:
            yield cluster

    @pytest.fixture
    def exported(fake_cluster: FakeCluster, tmp_path: Path) -> Exporting:
        """The real engine from `fake_cluster` to a sink, in a block that ends when the sink has everything.

        `async with exported(sink_type, settings) as export:` takes the sink's table as in config.toml;
        `resources=["pods"]` says what to export instead of ConfigMaps. `await export.written(3)` waits for
        three events that the sink acknowledged. `export.events` has what there was to be stored, and the
        next block goes on behind it.
        """
        from kexport.testing.exported import Exporting  # noqa: PLC0415

        return Exporting(fake_cluster, tmp_path / "exported")
