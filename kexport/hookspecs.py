"""The one hook, the marker that plugins put on it, and the version of what a plugin may rely on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from kexport.sink import SinkType

API_VERSION = "1"
"""The plugin API: the names in `kexport/__init__.py` and what they promise. Additions leave it as it is.

A plugin that needs another one says so in the module of its entry point: `kexport_api = "2"`.
"""

hookspec = pluggy.HookspecMarker("kexport")
hookimpl = pluggy.HookimplMarker("kexport")


@hookspec
def kexport_sinks() -> Iterable[SinkType[Any]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the sink types that this distribution offers; called once, at start."""
