"""Who kexport is in a chaos run: a service account with what `kexport rbac` prints, and tokens that end.

A token is bound to a Secret, and worth nothing once that is deleted: the shortest life that the API server
gives is ten minutes, too long to wait for.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.writer import ask
from tests.testbed import ApiServer

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ACCOUNT = "chaos"


class Access:
    """The kubeconfig at `kubeconfig` leads to `port` of 127.0.0.1, with the token of a file."""

    def __init__(self, api: ApiServer, folder: Path, *, namespace: str, port: int) -> None:
        self._api = api
        self._namespace = namespace
        self._numbers = itertools.count(1)
        self._secret = ""
        self._bindings: list[tuple[str, dict[str, Any]]] = []
        self._token = folder / "token"
        self.kubeconfig = folder / "kubeconfig"
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(api.ca_file)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "chaos", "cluster": cluster}],
            "users": [{"name": ACCOUNT, "user": {"tokenFile": str(self._token)}}],
            "contexts": [{"name": "chaos", "context": {"cluster": "chaos", "user": ACCOUNT}}],
            "current-context": "chaos",
        }
        self.kubeconfig.write_text(json.dumps(document))

    def prepare(self, config: Path) -> None:
        """The service account, a first token, and the rights that this configuration needs."""
        where = f"/api/v1/namespaces/{self._namespace}/serviceaccounts"
        self._made("POST", where, {"metadata": {"name": ACCOUNT}})
        self.renew()
        command = [
            sys.executable, "-m", "kexport", "rbac", "-c", str(config),
            "--kubeconfig", str(self._api.kubeconfig()), "--name", ACCOUNT, "--namespace", self._namespace,
        ]  # fmt: skip
        printed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        for manifest in yaml.safe_load_all(printed):
            if "rules" in manifest:
                self._made("POST", _collection(manifest), manifest)
            elif "subjects" in manifest:
                self._bindings.append((_collection(manifest), manifest))
        self.grant()

    def renew(self) -> None:
        """A new token in the file, put there in one step as the kubelet does."""
        name = f"token-{next(self._numbers)}"
        secrets = f"/api/v1/namespaces/{self._namespace}/secrets"
        secret = self._made("POST", secrets, {"metadata": {"name": name}})
        bound = {"apiVersion": "v1", "kind": "Secret", "name": name, "uid": secret["metadata"]["uid"]}
        where = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{ACCOUNT}/token"
        asked = {"spec": {"expirationSeconds": 7200, "boundObjectRef": bound}}
        fresh = self._token.with_suffix(".new")
        fresh.write_text(self._made("POST", where, asked)["status"]["token"])
        os.replace(fresh, self._token)  # noqa: PTH105  (the name says that it is atomic)
        self._secret = f"{secrets}/{name}"

    def revoke_token(self) -> None:
        """The token in the file is refused from now on (the API server remembers it for up to 10 s)."""
        self._made("DELETE", self._secret)

    def grant(self) -> None:
        for where, manifest in self._bindings:
            self._made("POST", where, manifest)

    def deny(self) -> None:
        """No right is left; a watch that is open goes on as long as its connection."""
        for where, manifest in self._bindings:
            self._made("DELETE", f"{where}/{manifest['metadata']['name']}")

    def _made(self, method: str, where: str, body: Any = None) -> Any:
        """An API server that is away meanwhile is asked again."""
        status, answer = ask(self._api, method, where, body)
        assert status < 300 or (status, method) in {(409, "POST"), (404, "DELETE")}, f"{where}: {answer!r}"
        if status == 409:
            name = body["metadata"]["name"]
            status, answer = ask(self._api, "GET", f"{where}/{name}", None)
        return json.loads(answer)


def _collection(manifest: dict[str, Any]) -> str:
    namespace = manifest["metadata"].get("namespace")
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"{RBAC}{where}/{manifest['kind'].lower()}s"
