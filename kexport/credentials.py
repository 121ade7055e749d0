"""Where the API server is and who we are to it: kubeconfig, in-cluster, or a plain URL.

The official client loads them; what it doesn't do is notice that they changed. `Credentials` loads anew when
a file behind them was replaced, and whenever the server says 401.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config
from kubernetes.aio.config.kube_config import FileOrData, KubeConfigLoader, KubeConfigMerger
from typing_extensions import override

from kexport.errors import ConfigError
from kexport.settings import nearest
from kexport.tables import ClusterConfig

OUTPUT_BYTES = 1 << 20
MESSAGE_BYTES = 300
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
LOGIN_SECONDS = 60.0
"""For an exec plugin or an identity provider; one that waits for a human is none for a service."""
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
            settings.host = _with_scheme(self._config.url.rstrip("/"))
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
            _check_context(self._config.context, files)
            loader = _Loader(
                KubeConfigMerger(os.pathsep.join(map(str, files))).config,
                active_context=self._config.context or _current_context(files),
                config_base_path=None,
            )
            async with asyncio.timeout(LOGIN_SECONDS):
                await loader.load_and_set(settings)
        except TimeoutError as error:
            raise ConfigError(
                f"cluster.kubeconfig: {paths} gave no credentials within {LOGIN_SECONDS:g} s;"
                " run its exec plugin by hand: it must not ask for anything"
            ) from error
        except _ContextError:
            raise
        # The loader lets through whatever YAML, base64 or a missing key raises; its words may hold a token.
        except Exception as error:  # noqa: BLE001
            raise ConfigError(f"cluster.kubeconfig: {paths} cannot be used: {_reason(error)}") from None
        parts = (settings.ssl_ca_cert, settings.cert_file, settings.key_file)
        self._files = [*files, *token_files(files), *(Path(part) for part in parts if part)]

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple(_stamp(path) for path in self._files)


class _ContextError(ConfigError):
    """Complete as it is: the place is the context, not the file."""


class _Loader(KubeConfigLoader):  # type: ignore[misc]  # the client is untyped
    """The official loader, but an exec plugin that fails, hangs or floods is an error, and dead afterwards.

    The original logs the failure and goes on as nobody, who is then merely forbidden.
    """

    @override
    async def load_from_exec_plugin(self) -> bool:
        plugin = self._user["exec"].value
        try:
            status = await _run(plugin)
        except (OSError, KeyError, *_UNREADABLE) as error:
            if isinstance(error, TimeoutError):
                raise
            raise _no_credentials(plugin, f"{type(error).__name__}: {error}") from None
        if status.token:
            self.token = f"Bearer {status.token}"
        elif status.clientCertificateData and status.clientKeyData:
            self.cert_file = self._file(status.clientCertificateData)
            self.key_file = self._file(status.clientKeyData)
        else:
            raise _no_credentials(plugin, "it said neither a token nor a certificate with its key")
        return True

    def _file(self, text: str) -> str:
        return str(
            FileOrData({"data": text}, None, data_key_name="data", base64_file_content=False).as_file()
        )


class _Status(msgspec.Struct, frozen=True):
    token: str = ""
    clientCertificateData: str = ""  # noqa: N815  (Kubernetes' own spelling)
    clientKeyData: str = ""  # noqa: N815


class _ExecCredential(msgspec.Struct, frozen=True):
    apiVersion: str  # noqa: N815
    status: _Status


async def _run(plugin: Mapping[str, Any]) -> _Status:
    """What the plugin says on standard output; raises ConfigError if it fails."""
    wanted = {
        "apiVersion": plugin["apiVersion"],
        "kind": "ExecCredential",
        "spec": {"interactive": bool(sys.stdin and sys.stdin.isatty())},
    }
    more = {each["name"]: each["value"] for each in plugin.get("env") or ()}
    transport, output = await asyncio.get_running_loop().subprocess_exec(
        _Output,
        plugin["command"],
        *(plugin.get("args") or ()),
        env=os.environ | more | {"KUBERNETES_EXEC_INFO": json.dumps(wanted)},
        stdin=None,
    )
    try:
        await asyncio.shield(output.ended)
    finally:
        transport.close()  # kills it if it is alive still
        await output.gone
    if code := transport.get_returncode():
        said = bytes(output.said[2][:MESSAGE_BYTES]).decode(errors="replace")
        raise _no_credentials(plugin, f"it ended with code {code}: {said}")
    found = msgspec.json.decode(output.said[1], type=_ExecCredential)
    if found.apiVersion != plugin["apiVersion"]:
        raise _no_credentials(plugin, f"it speaks {found.apiVersion[:100]}, not {plugin['apiVersion']}")
    return found.status


class _Output(asyncio.SubprocessProtocol):
    """What a process says, up to a limit. `ended` by itself, or because it says too much."""

    def __init__(self) -> None:
        self.said = {1: bytearray(), 2: bytearray()}
        self.ended = asyncio.get_running_loop().create_future()
        self.gone = asyncio.get_running_loop().create_future()

    @override
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.said[fd] += data
        if len(self.said[fd]) > OUTPUT_BYTES and not self.ended.done():
            self.ended.set_exception(OSError(f"it said more than {OUTPUT_BYTES} bytes"))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for each in (self.ended, self.gone):
            if not each.done():
                each.set_result(None)


def _no_credentials(plugin: Mapping[str, Any], why: str) -> ConfigError:
    command = plugin.get("command", "")
    return ConfigError(
        f"the exec plugin of its user ({command}) gave no credentials: {why.strip()}; run it by hand"
    )


def _with_scheme(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"cluster.url: {url!r} has no scheme; write http://{url} or https://{url}")
    return url


def _check_context(context: str, kubeconfigs: list[Path]) -> None:
    """A context that is asked for by name is there; raises _ContextError that shows those that are."""
    named = [
        str(each["name"])
        for path in filter(Path.exists, kubeconfigs)
        for each in _read(path).get("contexts") or ()
    ]
    if context and context not in named:
        raise _ContextError(
            f"cluster.context: the kubeconfig has no context {context!r}{nearest(context, named)};"
            f" it has: {', '.join(named) or 'none'}"
        )


def _current_context(kubeconfigs: list[Path]) -> str | None:
    """As kubectl merges: the first file that sets it wins; the loader would take the last one's."""
    for path in filter(Path.exists, kubeconfigs):
        if context := _read(path).get("current-context"):
            return str(context)
    return None


def _reason(error: Exception) -> str:
    """What is wrong; YAML's own words show the lines around it, where tokens stand."""
    mark = getattr(error, "problem_mark", None)
    return f"it is not YAML at line {mark.line + 1}" if mark else str(error)


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
