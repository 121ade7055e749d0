"""Becomes the process of a container, in a mount namespace of its own: `python -I container.py SPEC.json`.

A script that only needs the standard library. The caller's `unshare --mount` made the namespace; what is
mounted here is gone with the process. As in a Pod that is locked down: another root, which may be read-only,
another user, no capabilities, no new privileges.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
_LAST_CAPABILITY = 63


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    root = Path(spec["root"])
    _mount("--bind", str(root), str(root))  # a mount of ours, whose options are ours
    for source, target, writable in sorted(spec["mounts"], key=lambda each: len(each[1])):
        _bind(Path(source), _inside(root, target), writable=writable)
    _mount("-t", "proc", "proc", str(_inside(root, "/proc")))
    _mount("--rbind", "/dev", str(_inside(root, "/dev")))
    if spec["read_only"]:
        _mount("-o", "remount,bind,ro", str(root))
    os.chroot(root)
    os.chdir(spec["directory"])
    _become(spec)
    environment = spec["environment"]
    os.execvpe(spec["command"][0], spec["command"], environment)  # found by the container's own PATH


def _bind(source: Path, target: Path, *, writable: bool) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount("--bind", str(source), str(target))
    if not writable:
        _mount("-o", "remount,bind,ro", str(target))


def _inside(root: Path, path: str) -> Path:
    """Where a path of the container is: an absolute link in it must not lead out of its root."""
    found = root
    for part in Path(path).parts[1:]:
        found /= part
        while found.is_symlink():
            target = str(found.readlink())
            found = _inside(root, target) if target.startswith("/") else found.parent / target
    return found


def _become(spec: dict[str, Any]) -> None:
    """The user that the container runs as; from here on there is no way back."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for what this kernel does not know
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")
    os.setgroups(spec["groups"])
    os.setgid(spec["group"])
    os.setuid(spec["user"])


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
