"""Where the chart is installed: a cluster with a node of its own, a broker, and helm."""

from __future__ import annotations

import http.client
import json
import re
import uuid
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.live.exporting import Topics
from tests.live.truth import History, etcd_history
from tests.live.writer import RESOURCES
from tests.testbed import ApiServer, ControllerManager, Etcd, Kafka, free_port
from tests.testbed.helm import CHART, Helm
from tests.testbed.image import Image
from tests.testbed.kubelet import Kubelet

HOME = "exports"
TIMEOUT = "--timeout=180s"  # of helm
PREFIXES = {"configmaps": "/registry/configmaps/", "widgets.example.com": "/registry/example.com/widgets/"}
# Short enough to see it end, and renewed many times while the chart is tested.
TOKEN_SECONDS = 20.0
# The node's own controllers would miss a kubelet that speaks for itself.
CONTROLLERS = "*,-node-lifecycle-controller,-pod-garbage-collector-controller"


class Site:
    """The cluster, the node, the broker, and helm; what is installed writes to topics of the site's name."""

    def __init__(self, folder: Path, image: Image, kafka: Kafka, stack: ExitStack) -> None:
        self.name = f"chart-{uuid.uuid4().hex[:8]}"
        self.etcd = stack.enter_context(Etcd(folder / "etcd"))
        # The truth is read from etcd at the end, so nothing may be compacted before.
        kept = ("--etcd-compaction-interval=1h",)
        self.api = stack.enter_context(ApiServer(self.etcd, folder / "api", extra_flags=kept))
        flags = (f"--controllers={CONTROLLERS}", f"--root-ca-file={self.api.ca_file}")
        stack.enter_context(ControllerManager(self.api, folder / "controllers", extra_flags=flags))
        self.helm = Helm(folder, kubeconfig=self.api.kubeconfig())
        self.port = free_port()
        self.folder = folder
        self.topics = Topics(kafka.bootstrap, f"{self.name}.")
        stack.callback(self.topics.close)
        container = image.mount()
        stack.callback(container.remove)
        self._prepare(kafka)
        self.kubelet = stack.enter_context(
            Kubelet(
                self.api,
                HOME,
                folder / "node",
                root=container.root,
                image=image.config(),
                token_seconds=TOKEN_SECONDS,
            )
        )

    def _prepare(self, kafka: Kafka) -> None:
        """The namespace, which admits only restricted Pods, and the Secrets that an operator makes."""
        enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.write("POST", "/api/v1/namespaces", {"metadata": {"name": HOME, "labels": enforce}})
        for name, data in (
            ("env", {"BROKER": kafka.bootstrap}),
            ("files", {"topic": self.name + ".{resource}"}),
        ):
            body = {"metadata": {"name": f"kafka-{name}"}, "stringData": data}
            self.write("POST", f"/api/v1/namespaces/{HOME}/secrets", body)

    def write(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.api.request(method, path, body)
        assert status < 300, f"{method} {path}: {status} {answer[:500]!r}"
        return json.loads(answer)

    def values(self, *more: str, **config: Any) -> dict[str, Any]:
        """What is installed: both resources of the writer and `more`, into Kafka."""
        resources = [{"resource": name, "namespaces": [self.name]} for name in (*PREFIXES, *more)]
        audit = {
            "type": "kafka",
            "bootstrap_servers": ["${BROKER}"],
            "topic": "${file:/run/secrets/kexport/kafka-files/topic}",
        }
        return {
            "config": {
                "cluster": {"name": "live"},
                # All addresses, as in a Pod: here the Pod's network is the machine's.
                "http": {"listen": f"0.0.0.0:{self.port}"},
                "reload_seconds": 0.5,
                "resources": resources,
                "sinks": {"audit": audit},
                **config,
            },
            "envFrom": [{"secretRef": {"name": "kafka-env"}}],
            "secretFiles": ["kafka-files"],
            "probes": {"startup": {"periodSeconds": 1}, "readiness": {"periodSeconds": 1}},
            "rbac": {"clusterWide": False},
        }

    def release(self, command: str, values: dict[str, Any], *more: str, wait: bool = True) -> str:
        file = self.folder / "values.json"
        file.write_text(json.dumps(values), encoding="utf-8")
        waiting = ("--wait", TIMEOUT) if wait else ()
        options = ("--namespace", HOME, "--values", file, *waiting, *more)
        return self.helm.run(command, "kexport", CHART, *options)

    def pod(self) -> dict[str, Any]:
        found: dict[str, Any] = self.write("GET", f"/api/v1/namespaces/{HOME}/pods/kexport-0")
        return found

    def pod_is_new_and_ready(self, old: str) -> bool:
        self.alive()
        status, answer = self.api.request("GET", f"/api/v1/namespaces/{HOME}/pods/kexport-0")
        if status != 200:
            return False  # between two Pods
        pod = json.loads(answer)
        conditions = pod["status"].get("conditions", ())
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        return pod["metadata"]["uid"] != old and ready

    def alive(self) -> None:
        if self.kubelet.error:
            raise self.kubelet.error

    def ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def token(self) -> str:
        """What is in the Pod's token file now."""
        return (self.kubelet.pod("kexport-0").volumes / "token" / "token").read_text(encoding="utf-8")

    def accepts(self, token: str) -> bool:
        """Whether the API server knows who this is."""
        return self.api.request("GET", "/version", token=token)[0] != 401

    def watches(self) -> dict[str, int]:
        """How many watches each stream has opened since the process began."""
        found = re.findall(r'kexport_stream_watches_total\{stream="(.+?)"\} (\d+)', self.ask("/metrics")[1])
        return {stream: int(count) for stream, count in found}

    def topic_has(self, text: str) -> bool:
        self.alive()
        return any(text in line.decode() for line in self.topics.read())

    def longest_absence(self) -> float:
        """The most seconds between the end of one of kexport's Pods and the first answer of the next."""
        pods = [
            *(pod for pod in self.kubelet.ended if pod.name == "kexport-0"),
            self.kubelet.pod("kexport-0"),
        ]
        return max(after.began + after.started_seconds - before.ended for before, after in pairwise(pods))

    def has_all(self) -> bool:
        """Whether the last object of each resource has arrived, which `truth` made."""
        self.alive()
        needle = f'"{self.name}/last"'.encode()
        found = [json.loads(line) for line in self.topics.read() if needle in line]
        here = {each["resource"] for each in found if each.get("subject") == f"{self.name}/last"}
        return here >= PREFIXES.keys()

    def truth(self, *, since: int) -> History:
        """What etcd has of the writer's objects, up to now; the last ones are made here."""
        for resource in ("widgets.example.com", "configmaps"):
            prefix, version, kind = RESOURCES[resource]
            body = {"apiVersion": version, "kind": kind, "metadata": {"name": "last"}}
            place = f"{prefix}/namespaces/{self.name}/{resource.partition('.')[0]}"
            self.write("POST", place, body)
        key = f"/registry/configmaps/{self.name}/last"
        found = etcd_history(self.etcd, PREFIXES, since=since, until_key=key)
        return {thing: versions for thing, versions in found.items() if thing[1].startswith(f"{self.name}/")}
