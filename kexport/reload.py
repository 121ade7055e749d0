"""A configuration that changes while we run: read again on SIGHUP, and when the file says something else.

A mounted ConfigMap is replaced without a signal, and secrets that `${file:…}` names are, too. So the file is
read and understood again, and the result compared with what is in force. What can't be used is refused whole,
and said; the old one goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from kexport.config import Config
from kexport.errors import ConfigError
from kexport.tables import ClusterConfig, JournalConfig, Root
from kexport.telemetry import Stats, get_log
from kexport.waiting import wait_set

_AT_START = {
    "cluster": ClusterConfig.__struct_fields__,
    "journal": JournalConfig.__struct_fields__,
    "http": ("listen",),
}
FOR_EVER_SECONDS = 86_400.0
_log = get_log("engine")


class Reload:
    """`load` reads the configuration, and raises ConfigError; `config` is what is in force."""

    def __init__(self, load: Callable[[], Config], config: Config) -> None:
        self._load = load
        self._config = config
        self._asked = asyncio.Event()

    def ask(self) -> None:
        self._asked.set()

    async def run(self, apply: Callable[[Config], Awaitable[None]], stats: Stats) -> None:
        """Look for another configuration and `apply` it, for ever; `apply` raises ConfigError to refuse."""
        while True:
            await wait_set(self._asked, self._config.root.reload_seconds or FOR_EVER_SECONDS)
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                config = self._load()
                if config == self._config:
                    if asked:
                        _log.info("configuration read again; nothing has changed")
                else:
                    await apply(config)
                    self._config = config
                    stats.reloads, stats.reloaded_at = stats.reloads + 1, time.time()
                    _log.info("configuration changed", configuration=config)
            except ConfigError as error:
                # Each look at the same bad file would say the same.
                if asked or stats.reload_error != str(error):
                    stats.reload_failures += 1
                    _log.error("the new configuration is refused; the old one goes on", error=error)
                stats.reload_error = str(error)
            else:
                stats.reload_error = ""


def refuse_unchangeable(old: Root, new: Root) -> None:
    """Raises ConfigError if a setting changed that only counts at start."""
    for table, names in _AT_START.items():
        before, after = getattr(old, table), getattr(new, table)
        for name in names:
            if getattr(before, name) != getattr(after, name):
                raise ConfigError(f"{table}.{name}: cannot be changed while kexport runs; restart it")
