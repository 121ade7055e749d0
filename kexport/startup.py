"""What a command begins with: its configuration, its logs, its cluster. Heavy imports stay inside."""

# ruff: noqa: PLC0415  (`kexport --help` must not wait for a Kubernetes client)
from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # names for annotations; the modules behind them are what is heavy
    from kexport.config import Config
    from kexport.tables import ClusterConfig


def load(arguments: argparse.Namespace, *, level: str = "INFO") -> Config:
    """The configuration file; logs are set up, with its secrets masked."""
    return loader(arguments, level=level)()


def loader(arguments: argparse.Namespace, *, level: str = "INFO") -> Callable[[], Config]:
    """Reads the configuration file, each time anew; what was ever a secret of it stays masked in the logs."""
    from kexport import config, plugins, telemetry

    set_up_logs(arguments, level=level)
    found = plugins.load()
    for name, problem in found.problems.items():
        telemetry.get_log("plugins").warning("a plugin could not be loaded", plugin=name, problem=problem)
    masks: dict[str, str] = {}

    def load() -> Config:
        loaded = config.load(arguments.config, found.types, absent=found.absent)
        if new := {v: n for v, n in loaded.secrets.items() if len(v) > 3 and v not in masks}:
            masks.update(new)
            set_up_logs(arguments, level=level, masks=masks)
        return loaded

    return load


def set_up_logs(arguments: argparse.Namespace, *, level: str, masks: dict[str, str] | None = None) -> None:
    from kexport import telemetry

    telemetry.set_up_logs(style=arguments.log_format, level=arguments.log_level or level, masks=masks)


def cluster_of(arguments: argparse.Namespace, configured: ClusterConfig | None = None) -> ClusterConfig:
    """Which API server: the configuration's, unless the command line names one."""
    from kexport.tables import ClusterConfig

    if arguments.kubeconfig or arguments.context or arguments.url:
        return ClusterConfig(kubeconfig=arguments.kubeconfig, context=arguments.context, url=arguments.url)
    if configured is None and arguments.config:
        configured = load(arguments, level="WARNING").root.cluster
    return configured or ClusterConfig()
