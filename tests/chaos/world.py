"""Everything of a chaos run that is started: the real servers, the proxies before them, and kexport."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.chaos.access import Access
from tests.chaos.clock import Clock, can_compile
from tests.chaos.held import Held, HeldFile, HeldObjects, HeldTopics, wait_for_synced
from tests.chaos.proxy import Proxy
from tests.chaos.truth import Truth
from tests.chaos.writer import PATHS, PREFIXES, ask, path
from tests.exporter import toml_of
from tests.informer_cases import WIDGET_CRD
from tests.live.exporting import wait_until
from tests.testbed import Cluster, Kafka, S3Server, Server, free_port

NAMESPACE = "chaos"
VOLUME_BYTES = 96 << 20
_DETACH = 2  # umount2's MNT_DETACH: whatever is still open must not keep the mount


class World:
    """`with World(folder) as world`: all runs, kexport is synced, and nothing has been troubled yet."""

    def __init__(self, folder: Path, *, without: frozenset[str]) -> None:
        self.folder = folder
        self.journal = folder / "state"
        self.log = folder / "kexport" / "kexport.log"
        self._without = without
        self.clock: Clock | None = None
        self._stack = ExitStack()
        self.locks = {target: threading.Lock() for target in ("kexport", "apiserver", "etcd", "s3", "broker")}
        self.wanted = threading.Event()
        """Whether kexport should be running, that is: whoever finds it ended may start it."""
        self.restarts = 0
        self._compacted = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        self.cluster = stack.enter_context(Cluster(self.folder / "cluster"))
        self._prepare_cluster()
        proxied = free_port()
        broker_link = Proxy(proxied)
        self.kafka = stack.enter_context(_broker(self.folder / "kafka", proxied, broker_link.port))
        self.s3 = S3Server(self.folder / "s3")
        bucket = self.s3.make_bucket("lake")
        stack.enter_context(self.s3)
        self.links = {
            "api link": stack.enter_context(Proxy(self.cluster.api.port)),
            "broker link": stack.enter_context(broker_link),
            "s3 link": stack.enter_context(Proxy(self.s3.port)),
        }
        self._mount(stack)
        config = self._configure()
        self.access.prepare(config)
        self.truth = Truth(self.cluster.etcd, _prefixes(), namespace=NAMESPACE)
        stack.callback(self.truth.close)
        topics = [f"chaos.{resource}" for resource in PATHS]
        self.held: dict[str, Held] = {
            "file": HeldFile(self.folder / "changes.jsonl"),
            "kafka": HeldTopics(self.kafka, topics),
            "s3": HeldObjects(self.s3, "lake", bucket),
        }
        for held in self.held.values():
            stack.callback(held.close)
            held.start()
        command = [sys.executable, "-m", "kexport", "--log-format", "json", "run", "-c", str(config)]
        if "clock" not in self._without:
            self.clock = Clock(self.folder / "clock")
            command = self.clock.command(command)
        self.kexport = Server(
            self.log.parent, name="kexport", command=lambda: command, answers=lambda: True
        )  # it answers nobody: that it runs is all that can be asked for
        stack.callback(self.kexport.kill)
        self.kexport.start()
        for held in self.held.values():
            wait_for_synced(held, len(PATHS), seconds=180)
        self.wanted.set()

    def keep_running(self) -> None:
        """What the kubelet does: a kexport that ended by itself is started again, and counted."""
        with self.locks["kexport"]:
            if self.wanted.is_set() and not self.kexport.running:
                self.restarts += 1
                self.kexport.start()

    def compact(self) -> None:
        """etcd forgets all that the witness has seen; again only when there is something new to forget."""
        with self.locks["etcd"]:
            if (seen := self.truth.revision) > self._compacted:
                self.cluster.etcd.compact(seen)
                self._compacted = seen

    def check(self) -> None:
        """Raises when a witness has failed, so that no verdict could be trusted."""
        self.truth.check()
        for held in self.held.values():
            held.check()

    def _prepare_cluster(self) -> None:
        api = self.cluster.api
        ask(api, "POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        ask(api, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", WIDGET_CRD)
        # Asked again until the custom resource is served.
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "first"}}
        ask(api, "POST", path("widgets.example.com", NAMESPACE), widget)
        # The controllers put this into each namespace: here, before what happens is counted.
        certificate = path("configmaps", NAMESPACE, "kube-root-ca.crt")
        wait_until(lambda: ask(api, "GET", certificate)[0] == 200, seconds=180, what="certificates are there")

    def _mount(self, stack: ExitStack) -> None:
        """The journal gets a volume of its own, so that only the journal's is full."""
        self.journal.mkdir()
        if "journal volume" not in self._without:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "tmpfs", str(self.journal)], check=True
            )
            stack.callback(_unmount, self.journal)

    def _configure(self) -> Path:
        link = self.links
        self.access = Access(self.cluster.api, self.folder, namespace=NAMESPACE, port=link["api link"].port)
        quick = {"retry": {"max_seconds": 3.0}}
        document: dict[str, Any] = {
            "cluster": {"name": "chaos", "kubeconfig": str(self.access.kubeconfig)},
            "journal": {"path": str(self.journal), "keep_seconds": 60},
            "http": {"listen": ""},
            "resources": [{"resource": resource, "namespaces": [NAMESPACE]} for resource in PATHS],
            "sinks": {
                "file": {"type": "file", "path": str(self.folder / "changes.jsonl"), **quick},
                "kafka": {
                    "type": "kafka",
                    "bootstrap_servers": [f"127.0.0.1:{link['broker link'].port}"],
                    "topic": "chaos.{resource}",
                    **quick,
                },
                "s3": {
                    "type": "s3",
                    "url": "s3://lake/events",
                    # No folders by the hour: a clock that jumps would put later events into earlier ones.
                    "prefix": "{resource}/",
                    "endpoint": f"http://127.0.0.1:{link['s3 link'].port}",
                    "allow_http": True,
                    "access_key_id": self.s3.access_key,
                    "secret_access_key": self.s3.secret_key,
                    "request_timeout_seconds": 20,
                    "batch": {"max_events": 500, "max_wait_seconds": 1.0},
                    **quick,
                },
            },
        }
        config = self.folder / "config.toml"
        config.write_text(toml_of(document), encoding="utf-8")
        return config


def untroubled(folder: Path) -> frozenset[str]:
    """The targets of faults which this machine can't bring about."""
    cannot = {"journal volume": not can_mount(folder), "clock": not can_compile()}
    return frozenset(target for target, is_so in cannot.items() if is_so)


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a volume here: tried, since neither root nor a container tells."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode == 0:
        _unmount(folder)
    return done.returncode == 0


def _unmount(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(folder), _DETACH):
        raise OSError(ctypes.get_errno(), f"{folder} can't be unmounted")


def _broker(folder: Path, port: int, advertised: int) -> Kafka:
    """With a second listener, whose clients are told the proxy's address; tests read from the first."""
    broker = Kafka(folder)
    listeners = broker.properties["listeners"]
    direct = f"PLAINTEXT://{broker.bootstrap}"
    broker.properties |= {
        "listeners": f"{listeners},PROXIED://127.0.0.1:{port}",
        "advertised.listeners": f"{direct},PROXIED://127.0.0.1:{advertised}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
    }
    return broker


def _prefixes() -> Mapping[str, str]:
    return {resource: f"{prefix}{NAMESPACE}/" for resource, prefix in PREFIXES.items()}
