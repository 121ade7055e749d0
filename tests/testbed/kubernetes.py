"""The control plane without nodes: API server and controllers, but no scheduler and no kubelet.

Deployments become ReplicaSets and Pods, namespaces are finalised and garbage is collected; the
Pods stay Pending. The ServiceAccount admission is off, so a Pod needs no token to be made.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.testbed.cache import require
from tests.testbed.etcd import Etcd
from tests.testbed.https import HttpsClient
from tests.testbed.port import free_port
from tests.testbed.process import Server, ServerError
from tests.testbed.recipes import KUBERNETES, Part

# Each user and its groups; "reader" and "nobody" may do nothing until a test binds them a role.
_USERS = {"admin": "system:masters", "reader": "", "nobody": ""}


def is_passing(status: int, answer: bytes) -> bool:
    """Whether a write was refused for what passes: the server ends, has just begun, or has too much to do.

    One that has just begun does not serve custom resources yet (404), and admits nothing (403) before it
    knows the namespaces.
    """
    return status in {404, 429, 500, 503, 504} or (
        status == 403 and b"not yet ready to handle request" in answer
    )


class ApiServer(Server):
    """kube-apiserver on a loopback port; a restart keeps port, certificate, key and tokens."""

    def __init__(
        self, etcd: Etcd, folder: Path, *, extra_flags: Sequence[str] = (), release: Part = KUBERNETES
    ) -> None:
        self.port = free_port()
        self._client = HttpsClient(self.port, ca_file=folder.absolute() / "apiserver.crt")
        super().__init__(
            folder,
            name="kube-apiserver",
            command=self._kube_apiserver,
            answers=self._serves,
            ended=self._client.close,
        )
        self._binary = require(release) / "kube-apiserver"
        self._etcd = etcd
        self._extra_flags = list(extra_flags)
        self._tokens = {user: secrets.token_hex(16) for user in _USERS}

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The token of "admin", who may do everything."""
        return self._tokens["admin"]

    def user_token(self, user: str) -> str:
        return self._tokens[user]

    @property
    def ca_file(self) -> Path:
        """The certificate that the API server made for itself at its first start."""
        return self.folder / "apiserver.crt"

    @property
    def signing_key(self) -> Path:
        """The key that the API server made for its certificate; it signs tokens as well."""
        return self.folder / "apiserver.key"

    def kubeconfig(self, user: str = "admin") -> Path:
        """The path of a kubeconfig file of that user; JSON, which is YAML."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            "current-context": "testbed",
        }
        path = self.folder / f"{user}.kubeconfig"
        path.write_text(json.dumps(config, indent=2))
        return path

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        token: str | None = None,
        content_type: str = "application/json",
        max_wait_seconds: float = 60,
    ) -> tuple[int, bytes]:
        """One request as admin (or as the token's user): status and whole body."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        if body is not None:
            headers["Content-Type"] = content_type
        payload = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        return self._client.request(
            method, path, body=payload, headers=headers, max_wait_seconds=max_wait_seconds
        )

    def _kube_apiserver(self) -> list[str]:
        lines = [f'{self._tokens[user]},{user},{user},"{groups}"\n' for user, groups in _USERS.items()]
        (self.folder / "tokens.csv").write_text("".join(lines))
        key = self.signing_key
        return [
            str(self._binary),
            f"--etcd-servers={self._etcd.client_url}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={self.folder}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            # With the default of 0 a stop waits 60 s for open watches, and controllers always have some.
            "--shutdown-watch-termination-grace-period=1s",
            *self._extra_flags,
        ]

    def _serves(self) -> bool:
        # The default namespace is made only after /readyz says ok.
        paths = ("/readyz", "/api/v1/namespaces/default")
        return all(self.request("GET", path, max_wait_seconds=5)[0] == 200 for path in paths)


class ControllerManager(Server):
    """kube-controller-manager as admin: no leader election, no service account per controller."""

    def __init__(
        self, api: ApiServer, folder: Path, *, extra_flags: Sequence[str] = (), release: Part = KUBERNETES
    ) -> None:
        self.port = free_port()
        self._client = HttpsClient(self.port, ca_file=folder.absolute() / "kube-controller-manager.crt")
        super().__init__(
            folder,
            name="kube-controller-manager",
            command=self._controllers,
            answers=self._healthy,
            ended=self._client.close,
        )
        self._binary = require(release) / "kube-controller-manager"
        self._api = api
        self._extra_flags = list(extra_flags)

    def _controllers(self) -> list[str]:
        kubeconfig = self._api.kubeconfig()
        return [
            str(self._binary),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder}",
            "--leader-elect=false",
            "--use-service-account-credentials=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            *self._extra_flags,
        ]

    def _healthy(self) -> bool:
        status, _ = self._client.request("GET", "/healthz", body=None, headers={}, max_wait_seconds=5)
        return status == 200


class Cluster:
    """etcd, API server and controllers that start and stop together."""

    def __init__(
        self,
        folder: Path,
        *,
        controllers: bool = True,
        unsafe_no_fsync: bool = True,
        extra_flags: Sequence[str] = (),
        release: Part = KUBERNETES,
    ) -> None:
        self.etcd = Etcd(folder / "etcd", unsafe_no_fsync=unsafe_no_fsync)
        self.api = ApiServer(self.etcd, folder / "api", extra_flags=extra_flags, release=release)
        self._controllers = (
            ControllerManager(self.api, folder / "controllers", release=release) if controllers else None
        )
        self._started = ExitStack()

    @property
    def controllers(self) -> ControllerManager:
        if self._controllers is None:
            raise ServerError("this cluster was made with controllers=False")
        return self._controllers

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in (self.etcd, self.api, self._controllers):
                if server is not None:
                    stack.enter_context(server)
            self._started = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._started.close()
