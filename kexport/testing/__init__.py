"""What plugin authors, the demo and our own tests share: made-up events, an API server, the sink contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kexport.testing.events import make_event
from kexport.testing.rehearsal import make_context

if TYPE_CHECKING:
    from kexport.testing.cluster import FakeCluster
    from kexport.testing.contract import SinkContract

__all__ = ["FakeCluster", "SinkContract", "make_context", "make_event"]


def __getattr__(name: str) -> Any:
    """FakeCluster brings an HTTP server along, SinkContract pytest: only for those who ask for them."""
    if name == "FakeCluster":
        from kexport.testing.cluster import FakeCluster  # noqa: PLC0415

        return FakeCluster
    if name == "SinkContract":
        from kexport.testing.contract import SinkContract  # noqa: PLC0415

        return SinkContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
