"""The sink contract against a real S3 server, which is stopped and started for each outage.

What is stored is read back by Apache Arrow's own S3 client, which shares nothing with the sink's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import kexport_s3
import pyarrow.fs
import pyarrow.parquet
import pytest
import zstandard
from kexport_s3.config import Format, S3Config

from kexport import Event
from kexport.testing import SinkContract, make_event
from tests.testbed import S3Server

RESOURCES = ("configmaps", "pods", "nodes", "jobs.batch", "secrets")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests here, with a folder each: an outage ends before its test does."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.make_bucket("lake")
    with server as running:
        yield running


class S3Contract(SinkContract[S3Config]):
    sink_type = kexport_s3.s3_sink
    form: Format

    @pytest.fixture
    def config(self, s3: S3Server, request: pytest.FixtureRequest) -> S3Config:
        self._s3 = s3
        return S3Config(
            url=f"s3://lake/{type(self).__name__}/{request.node.name}",
            endpoint=s3.endpoint,
            allow_http=True,
            access_key_id=s3.access_key,
            secret_access_key=s3.secret_key,
            format=self.form,
        )

    async def stored(self, config: S3Config) -> list[str]:
        return [json.loads(record)["id"] for record in await self.records(config)]

    async def records(self, config: S3Config) -> list[bytes]:
        return await asyncio.to_thread(self._read, config.url.removeprefix("s3://"))

    def _read(self, folder: str) -> list[bytes]:
        """All events below the folder, in the order of the objects' names."""
        bucket = pyarrow.fs.S3FileSystem(
            access_key=self._s3.access_key,
            secret_key=self._s3.secret_key,
            endpoint_override=self._s3.endpoint.removeprefix("http://"),
            scheme="http",
            region=self._s3.region,
        )
        selector = pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True)
        names = sorted(each.path for each in bucket.get_file_info(selector) if each.is_file)
        found: list[bytes] = []
        for name in names:
            if not name.endswith("/_kexport_check"):
                with bucket.open_input_file(name) as file:
                    found += self._records_of(file)
        return found

    def _records_of(self, file: pyarrow.NativeFile) -> list[bytes]:
        return zstandard.ZstdDecompressor().decompress(file.read()).splitlines()

    @asynccontextmanager
    async def outage(self, config: S3Config) -> AsyncIterator[None]:
        await asyncio.to_thread(self._s3.stop)
        try:
            yield
        finally:
            await asyncio.to_thread(self._s3.start)

    def event(self, number: int) -> Event:
        """Five folders, so that a batch is objects that go up side by side; a key stays in its folder."""
        return make_event(number, resource=RESOURCES[number % len(RESOURCES)])

    def unacceptable(self) -> Event:
        pytest.skip("a store takes or refuses whole objects, whatever is in them, up to 5 GB in one request")


class TestS3(S3Contract):
    form = "jsonl.zst"


class TestS3WithParquet(S3Contract):
    form = "parquet"

    def _records_of(self, file: pyarrow.NativeFile) -> list[bytes]:
        return [json.dumps(row, default=str).encode() for row in pyarrow.parquet.read_table(file).to_pylist()]
