"""The image that the Dockerfile makes: what is in it, who it is, how large, and how soon it is there."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.cache import BuildError
from tests.testbed.image import ROOT, Container, Image

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


def test_what_is_built_anew_is_the_same_to_the_last_byte(image: Image, tmp_path: Path) -> None:
    """Of a copy in another folder, at another time, with everything downloaded again."""
    copy = tmp_path / "copy"
    # What others make and remove meanwhile is no part of it.
    kept_out = (".*_cache", ".git", ".hypothesis", ".venv", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*kept_out))
    again = Image("kexport-again")
    again.build(copy, anew=True)
    try:
        first, second = contents(image), contents(again)
    finally:
        again.remove()
    assert {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)} == set()
    print(f"\n── image: all {len(first)} files the same when built anew, in {again.build_seconds:.0f} s")


def test_a_full_storage_is_not_cleared_under_a_container_in_use(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.testbed.image._MOST_IMAGES", 0)
    Image().build()
    assert (container.root / SBOM.lstrip("/")).is_file()


def contents(image: Image) -> dict[str, tuple[int, int, str]]:
    """Mode, owner and content of everything in the image."""
    container = image.mount()
    try:
        return {
            str(path.relative_to(container.root)): (path.lstat().st_mode, path.lstat().st_uid, digest(path))
            for path in container.root.rglob("*")
        }
    finally:
        container.remove()


def digest(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def test_its_bill_of_materials_is_what_is_installed(container: Container, tmp_path: Path) -> None:
    document = json.loads((container.root / SBOM.lstrip("/")).read_text(encoding="utf-8"))
    components = [document["metadata"]["component"], *document["components"]]
    named = {(each["name"].replace("-", "_"), each["version"]) for each in components}
    folders = container.root.glob("opt/kexport/lib/python3*/site-packages/*.dist-info")
    found = {tuple(each.name.removesuffix(".dist-info").rsplit("-", 1)) for each in folders}
    assert named == {(name.lower().replace(".", "_").replace("-", "_"), version) for name, version in found}
    assert [each["name"] for each in components if "licenses" not in each] == []
    print(f"\n── bill of materials: {len(components)} distributions, each with its licence")
