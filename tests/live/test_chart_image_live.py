"""The image that the Dockerfile makes: what is in it, who it is, how large, and how soon it is there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.cache import BuildError
from tests.testbed.image import Container, Image

SBOM = "/opt/kexport/sbom.cdx.json"


@pytest.fixture(scope="module")
def image() -> Image:
    image = Image()
    image.build()
    return image


@pytest.fixture
def container(image: Image) -> Iterator[Container]:
    container = image.mount()
    yield container
    container.remove()


def test_it_runs_kexport_as_nobody_and_says_what_it_is(image: Image) -> None:
    config = image.config()
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["kexport"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert "Healthcheck" not in config
    print(f"\n── image: {image.size() / 1e6:.0f} MB with its base; built in {image.build_seconds:.0f} s")


def test_it_has_the_four_sinks_and_their_extras(container: Container, tmp_path: Path) -> None:
    started = time.monotonic()
    listed = json.loads(container.run("kexport", "plugins", "-o", "json", scratch=tmp_path))
    print(f"\n── kexport plugins in the image: {time.monotonic() - started:.1f} s")
    assert {(each["type"], each["status"]) for each in listed} == {
        (name, "ok") for name in ("file", "kafka", "otlp", "s3")
    }
    container.run("python3", "-c", "import boto3, grpc, pyarrow, cel_expr_python.cel", scratch=tmp_path)


def test_it_has_no_installer_and_cannot_be_written_to(container: Container, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="No module named pip"):
        container.run("/opt/kexport/bin/python", "-m", "pip", "--version", scratch=tmp_path)
    write = "open('/opt/kexport/x', 'w')"
    for user in (65532, 0):
        with pytest.raises(BuildError, match="Read-only file system"):
            container.run("python3", "-c", write, scratch=tmp_path, user=user)


def test_its_bill_of_materials_is_what_is_installed(container: Container, tmp_path: Path) -> None:
    document = json.loads((container.root / SBOM.lstrip("/")).read_text(encoding="utf-8"))
    components = [document["metadata"]["component"], *document["components"]]
    named = {(each["name"].replace("-", "_"), each["version"]) for each in components}
    folders = container.root.glob("opt/kexport/lib/python3*/site-packages/*.dist-info")
    found = {tuple(each.name.removesuffix(".dist-info").rsplit("-", 1)) for each in folders}
    assert named == {(name.lower().replace(".", "_").replace("-", "_"), version) for name, version in found}
    print(f"\n── bill of materials: {len(components)} distributions")
