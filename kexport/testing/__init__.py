"""What plugin authors, the demo and our own tests share: made-up events, an API server, the sink contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kexport.testing.events import make_event
from kexport.testing.log import SinkLog
from kexport.testing.rehearsal import make_context

if TYPE_CHECKING:
    from kexport.testing.cluster import FakeCluster
    from kexport.testing.contract import SinkContract
    from kexport.testing.exported import Exporting

__all__ = ["Exporting", "FakeCluster", "SinkContract", "SinkLog", "make_context", "make_event"]


def __getattr__(name: str) -> Any:
    """Exporting brings the engine along, FakeCluster an HTTP server, SinkContract pytest: when asked for."""
    if name == "Exporting":
        from kexport.testing.exported import Exporting  # noqa: PLC0415

        return Exporting
    if name == "FakeCluster":
        from kexport.testing.cluster import FakeCluster  # noqa: PLC0415

        return FakeCluster
    if name == "SinkContract":
        from kexport.testing.contract import SinkContract  # noqa: PLC0415

        return SinkContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
