"""The image, built from the Dockerfile by buildah on a base that debootstrap makes here; no engine runs it.

No registry is asked. The base is Debian's python3 in a minimal system, which debootstrap fetches through the
mirror that it knows itself; it is kept in the cache. To run something, the image is mounted (pod.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.testbed import packages
from tests.testbed.cache import BuildError, cache_folder, locked

ROOT = Path(__file__).parents[2]
NAME = "kexport"
_BASE = "kexport-base"
_TOOLS = ("buildah", "debootstrap")
_SUITE = "bookworm"
_MOST_IMAGES = 60  # each build of changed sources adds about ten, one for each step, and 1 GB
_BASE_DOCKERFILE = "FROM scratch\nADD base.tar /\n"


def provide_tools() -> None:
    """See to what a build needs: on Debian it is installed; raises BuildError where that cannot be."""
    if os.geteuid() != 0:
        raise BuildError("the image can only be built by root: buildah mounts its files")
    packages.provide(_TOOLS, what="the image")


class Image:
    """Storage of its own in the cache, so that the steps of the last build serve the next."""

    def __init__(self, name: str = NAME) -> None:
        self._name = name
        self._folder = cache_folder() / "image"
        self._driver = ""
        self._used = -1  # a descriptor, held open until the process ends
        self.build_seconds = 0.0

    def build(self, sources: Path = ROOT, *, anew: bool = False) -> None:
        """The base, once, and the image, as the Dockerfile says; raises BuildError.

        `anew` takes no step from an earlier build, and keeps none for a later one.
        """
        provide_tools()
        with locked():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._driver = "overlay" if _overlays(self._folder) else "vfs"
            if not self._buildah("images", "--quiet", "--filter", f"reference={_BASE}").strip():
                self._make_base()
            if len(self._buildah("images", "--all", "--quiet").split()) > _MOST_IMAGES:
                self._clear()
            # Until this process ends, no other one clears the storage under its containers.
            fcntl.flock(self._use(), fcntl.LOCK_SH)
            started = time.monotonic()
            self._buildah(
                "bud", "--isolation=chroot", *(("--no-cache",) if anew else self._layers()), "--pull-never",
                *self._pip_settings(), f"--build-arg=BASE=localhost/{_BASE}", f"--tag={self._name}",
                f"--file={sources / 'Dockerfile'}", str(sources), max_wait_seconds=900,
            )  # fmt: skip
            self.build_seconds = time.monotonic() - started

    def config(self) -> dict[str, Any]:
        """What the image says of itself: Entrypoint, Cmd, Env, User, Labels."""
        document = json.loads(self._buildah("inspect", "--type=image", self._name))
        found: dict[str, Any] = document["OCIv1"]["config"]
        return found

    def size(self) -> int:
        """Bytes of the image's files, the base included."""
        container = self.mount()
        try:
            used = subprocess.run(
                ["du", "-sxB1", container.root], capture_output=True, text=True, check=True
            ).stdout
        finally:
            container.remove()
        return int(used.split()[0])

    def mount(self) -> Container:
        """A fresh container: the image's file system, ready to be run in."""
        name = self._buildah("from", "--pull-never", f"localhost/{self._name}").strip()
        root = self._buildah("mount", name).strip()
        return Container(self, name, Path(root))

    def remove(self) -> None:
        self._buildah("rmi", "--force", f"localhost/{self._name}")

    def remove_container(self, name: str) -> None:
        self._buildah("rm", name)

    def _clear(self) -> None:
        """Remove what earlier builds left, unless somebody uses an image; the caller holds the lock."""
        try:
            fcntl.flock(self._use(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        # What a run that was killed left mounted would keep its image.
        self._buildah("rm", "--all")
        self._buildah("rmi", "--prune", "--force")

    def _use(self) -> int:
        if self._used < 0:
            self._used = os.open(self._folder / "used", os.O_RDWR | os.O_CREAT, 0o600)
        return self._used

    def _make_base(self) -> None:
        base = self._folder / "base"
        shutil.rmtree(base, ignore_errors=True)
        packages = "python3,python3-venv,ca-certificates"
        _run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", _SUITE, str(base)],
            max_wait_seconds=600,
        )
        _run(["tar", "-C", str(base), "-cf", str(self._folder / "base.tar"), "."], max_wait_seconds=120)
        shutil.rmtree(base)
        (self._folder / "Dockerfile").write_text(_BASE_DOCKERFILE)
        self._buildah("bud", "--isolation=chroot", f"--tag={_BASE}", str(self._folder), max_wait_seconds=300)
        (self._folder / "base.tar").unlink()

    def _pip_settings(self) -> list[str]:
        """This machine's settings of pip, with the files they name, for the build alone."""
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        ).stdout
        settings, volumes = {}, []
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            value = value.strip("'\"")
            settings[key.rpartition(".")[2]] = value
            if value.startswith("/") and Path(value).exists():
                volumes.append(f"--volume={value}:{value}:ro")
        conf = self._folder / "pip.conf"
        conf.touch(mode=0o600)
        conf.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
        return [*volumes, f"--volume={conf}:/etc/pip.conf:ro"]

    def _buildah(self, *arguments: str, max_wait_seconds: float = 300) -> str:
        place = self._folder / self._driver
        storage = [
            f"--storage-driver={self._driver}",
            f"--root={place / 'storage'}",
            f"--runroot={place / 'run'}",
        ]
        return _run(["buildah", *storage, *arguments], max_wait_seconds=max_wait_seconds)

    def _layers(self) -> list[str]:
        # vfs copies everything for each step that it keeps: 15 GB for this image.
        return ["--layers"] if self._driver == "overlay" else []


class Container:
    """The image's files under `root`; `remove` takes them away."""

    def __init__(self, image: Image, name: str, root: Path) -> None:
        self._image = image
        self.name = name
        self.root = root

    def run(self, *command: str, scratch: Path, user: int = 65532) -> str:
        """What a command prints, run by this user with `scratch` as /tmp; raises BuildError."""
        os.chown(scratch, user, user)
        spec = {
            "root": str(self.root),
            "mounts": [(str(scratch), "/tmp", True)],
            "read_only": True,
            "directory": "/tmp",
            "user": user,
            "group": user,
            "groups": [user],
            "command": command,
            "environment": dict(line.split("=", 1) for line in self._image.config()["Env"]),
        }
        place = scratch / "spec.json"
        place.write_text(json.dumps(spec), encoding="utf-8")
        return _run([*enter(place)], max_wait_seconds=120)

    def remove(self) -> None:
        self._image.remove_container(self.name)


def enter(spec: Path) -> list[str]:
    """The command that becomes the container which the file describes (container.py)."""
    launcher = Path(__file__).with_name("container.py")
    return ["unshare", "--mount", "--propagation=private", sys.executable, "-I", str(launcher), str(spec)]


def _overlays(folder: Path) -> bool:
    """Whether the kernel lets us lay one folder over another there."""
    parts = {name: folder / "try" / name for name in ("lowerdir", "upperdir", "workdir", "merged")}
    for each in parts.values():
        each.mkdir(parents=True, exist_ok=True)
    merged = parts.pop("merged")
    options = ",".join(f"{name}={place}" for name, place in parts.items())
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", str(merged)], check=True)
    return True


def _run(command: list[str], *, max_wait_seconds: float) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=max_wait_seconds,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise BuildError(f"`{' '.join(command)}` ended with {done.returncode}; it said\n{said}")
    return done.stdout
