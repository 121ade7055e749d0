"""The process of one Pod: started as its container says, probed, stopped within its grace period."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.testbed.image import enter


class Probe:
    """One probe of a container; `passing` is None until it has an opinion."""

    def __init__(self, spec: dict[str, Any], port: int) -> None:
        self._path = spec["httpGet"]["path"]
        self._port = port
        self._period = spec.get("periodSeconds", 10)
        self._timeout = spec.get("timeoutSeconds", 1)
        self._threshold = spec.get("failureThreshold", 3)
        self._due = 0.0
        self._failures = 0
        self.passing: bool | None = None

    def look(self) -> None:
        """Ask, if it is time to."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._period
        if self._answers():
            self._failures, self.passing = 0, True
            return
        self._failures += 1
        if self._failures >= self._threshold:
            self.passing = False

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout)
        try:
            connection.request("GET", self._path)
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class RunningPod:
    def __init__(
        self,
        pod: dict[str, Any],
        *,
        folder: Path,
        root: Path,
        image: dict[str, Any],
        environment: dict[str, str],
        sources: dict[str, Path],
    ) -> None:
        self.name = pod["metadata"]["name"]
        self.volumes = folder / "volumes"
        self.log = folder / "log"
        self.exit_code: int | None = None
        self.stopped_seconds = 0.0
        self.began = 0.0
        self.started_seconds = 0.0
        self.killed = False
        self._folder = folder
        self._container = pod["spec"]["containers"][0]
        self._security = {**pod["spec"]["securityContext"], **self._container["securityContext"]}
        self._spec = self._described(root, image, environment, sources)
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = self._deadline = 0.0
        ports = {port["name"]: port["containerPort"] for port in self._container.get("ports", ())}
        self._probes = {
            kind: Probe(self._container[kind], ports[self._container[kind]["httpGet"]["port"]])
            for kind in ("startupProbe", "livenessProbe", "readinessProbe")
            if kind in self._container
        }
        self._told: tuple[object, ...] | None = None

    def start(self) -> None:
        for source, _, writable in self._spec["mounts"]:
            self._hand_over(Path(source), writable=writable)
        spec = self._folder / "spec.json"
        spec.write_text(json.dumps(self._spec), encoding="utf-8")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(enter(spec), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.began = time.monotonic()

    def look(self) -> bool:
        """Ask the probes that are due; whether the status has changed."""
        if self._process and self._process.poll() is not None:
            self.exit_code = self._process.returncode
        elif self._begun():
            for kind in ("livenessProbe", "readinessProbe"):
                if kind in self._probes:
                    self._probes[kind].look()
            alive = self._probes.get("livenessProbe")
            assert not (alive and alive.passing is False), f"liveness failed: {self.tail()}"
        return self._state() != self._told

    def status(self) -> dict[str, Any]:
        self._told = self._state()
        phase, ready = self._told
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        conditions = [
            {"type": kind, "status": str(bool(ready or kind[0] in "PI")), "lastTransitionTime": now}
            for kind in kinds
        ]
        return {"phase": phase, "conditions": conditions, "podIP": "127.0.0.1", "startTime": now}

    def terminate(self, grace_seconds: float) -> None:
        """SIGTERM the first time, SIGKILL when the grace is over."""
        if self._process is None or self._process.poll() is not None:
            return
        if not self._asked:
            self._asked = time.monotonic()
            self._deadline = self._asked + grace_seconds
            self._process.send_signal(signal.SIGTERM)
        elif time.monotonic() > self._deadline:
            self.killed = True
            self._process.kill()

    def gone(self) -> bool:
        if self._process is None:
            return True
        self.exit_code = self._process.poll()
        self.stopped_seconds = time.monotonic() - self._asked
        return self.exit_code is not None

    @property
    def ended(self) -> float:
        """When it was gone, after it had been asked to end; by the clock of `began`."""
        return self._asked + self.stopped_seconds

    def kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _begun(self) -> bool:
        startup = self._probes.get("startupProbe")
        if startup is None or startup.passing:
            return True
        startup.look()
        assert startup.passing is not False, f"it does not start: {self.tail()}"
        if startup.passing:
            self.started_seconds = time.monotonic() - self.began
        return bool(startup.passing)

    def _state(self) -> tuple[str, bool]:
        if self.exit_code is not None:
            return ("Failed" if self.exit_code else "Succeeded"), False
        probe = self._probes.get("readinessProbe")
        return "Running", probe is None or probe.passing is True

    def _described(
        self, root: Path, image: dict[str, Any], environment: dict[str, str], sources: dict[str, Path]
    ) -> dict[str, Any]:
        """What container.py is told."""
        given = dict(line.split("=", 1) for line in image.get("Env") or ())
        entrypoint = self._container.get("command") or image["Entrypoint"]
        group = self._security["runAsGroup"]
        return {
            "root": str(root),
            "mounts": [
                (str(sources[mount["name"]]), mount["mountPath"], not mount.get("readOnly", False))
                for mount in self._container["volumeMounts"]
            ],
            "read_only": self._security["readOnlyRootFilesystem"],
            "directory": image.get("WorkingDir") or "/",
            "user": self._security["runAsUser"],
            "group": group,
            "groups": [self._security.get("fsGroup", group)],
            "command": [*entrypoint, *self._container.get("args", image.get("Cmd") or ())],
            "environment": {**given, **environment},
        }

    def _hand_over(self, folder: Path, *, writable: bool) -> None:
        """As fsGroup says: the volume's group, who may write where writing is allowed."""
        os.chown(folder, 0, self._security["fsGroup"])
        folder.chmod(0o2770 if writable else 0o750)
        if not writable:
            for file in folder.iterdir():
                os.chown(file, 0, self._security["fsGroup"])
                file.chmod(0o440)
