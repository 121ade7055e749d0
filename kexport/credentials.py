"""Where the API server is and who we are to it: kubeconfig, in-cluster, or a plain URL.

The official client loads them; what it doesn't do is notice that they changed. `Credentials` loads anew when
a file behind them was replaced, and whenever the server says 401.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from kexport.errors import ConfigError
from kexport.tables import ClusterConfig

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Credentials:
    """Loads client configurations; `stale` says when the one in use should be replaced."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._files: list[Path] = []
        self._seen: tuple[tuple[int, int], ...] = ()

    async def load(self) -> Configuration:
        """A fresh client configuration, exec plugin run; raises ConfigError."""
        before = {path: _stamp(path) for path in self._files}  # a file may change while it is being read
        settings = Configuration()
        settings.api_key_prefix = {}
        if self._config.url:
            settings.host = self._config.url.rstrip("/")
            self._files = []
        elif self._in_cluster:
            self._load_in_cluster(settings)
        else:
            await self._load_kubeconfig(settings)
        self._seen = tuple(before.get(path) or _stamp(path) for path in self._files)
        return settings

    @property
    def stale(self) -> bool:
        """Whether a file that the credentials came from has changed since."""
        return self._stamps() != self._seen

    @property
    def _in_cluster(self) -> bool:
        asked = self._config.kubeconfig or self._config.context
        return not asked and bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and SERVICE_ACCOUNT.exists()

    def _load_in_cluster(self, settings: Configuration) -> None:
        try:
            load_incluster_config(client_configuration=settings)
        except ConfigException as error:
            raise ConfigError(f"cluster: the pod's service account cannot be used: {error}") from error
        self._files = [SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"]

    async def _load_kubeconfig(self, settings: Configuration) -> None:
        paths = self._config.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        files = [Path(path).expanduser() for path in paths.split(os.pathsep) if path]
        if not any(path.exists() for path in files):
            raise ConfigError(
                f"cluster.kubeconfig: no such file: {paths}; name one there or in $KUBECONFIG,"
                " or set cluster.url to a kubectl proxy's address"
            )
        try:
            await load_kube_config(
                config_file=os.pathsep.join(map(str, files)),
                context=self._config.context or _current_context(files),
                client_configuration=settings,
                persist_config=False,
            )
        # The loader lets through whatever YAML, base64 or a missing key raises.
        except Exception as error:
            raise ConfigError(f"cluster.kubeconfig: {paths} cannot be used: {error}") from error
        if exec_plugin(files, self._config.context) and not (settings.api_key or settings.cert_file):
            # The loader logs the plugin's failure and goes on as nobody, who is then merely forbidden.
            raise ConfigError(
                f"cluster.kubeconfig: the exec plugin of {paths} gave no credentials; run it by hand"
            )
        parts = (settings.ssl_ca_cert, settings.cert_file, settings.key_file)
        self._files = [*files, *token_files(files), *(Path(part) for part in parts if part)]

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple(_stamp(path) for path in self._files)


def exec_plugin(kubeconfigs: list[Path], context: str) -> bool:
    """Whether the user of the context (default: the current one) is known through an exec plugin."""
    wanted = context or _current_context(kubeconfigs)
    for path in filter(Path.exists, kubeconfigs):
        document = _read(path)
        contexts = {each.get("name"): each.get("context") or {} for each in document.get("contexts") or []}
        if wanted in contexts:
            user = contexts[wanted].get("user")
            return any(
                "exec" in (each.get("user") or {})
                for other in filter(Path.exists, kubeconfigs)
                for each in _read(other).get("users") or []
                if each.get("name") == user
            )
    return False


def _current_context(kubeconfigs: list[Path]) -> str | None:
    """As kubectl merges: the first file that sets it wins; the loader would take the last one's."""
    for path in filter(Path.exists, kubeconfigs):
        if context := _read(path).get("current-context"):
            return str(context)
    return None


def _read(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415  (only kubeconfig users pay for it)

    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}


def token_files(kubeconfigs: list[Path]) -> list[Path]:
    """The `tokenFile`s that these kubeconfigs name; the loader reads each once and forgets it."""
    found: list[Path] = []
    for path in filter(Path.exists, kubeconfigs):
        users = [each.get("user") or {} for each in _read(path).get("users") or []]
        found += [path.parent / user["tokenFile"] for user in users if "tokenFile" in user]
    return found


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)
