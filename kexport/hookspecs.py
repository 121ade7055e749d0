"""The one hook, and the marker that plugins put on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from kexport.sink import SinkType

hookspec = pluggy.HookspecMarker("kexport")
hookimpl = pluggy.HookimplMarker("kexport")


@hookspec
def kexport_sinks() -> Iterable[SinkType[Any]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the sink types that this distribution offers; called once, at start."""
