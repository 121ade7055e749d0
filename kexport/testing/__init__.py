"""What plugin authors, the demo and our own tests share: made-up events, an API server in the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kexport.testing.events import make_event

if TYPE_CHECKING:
    from kexport.testing.cluster import FakeCluster

__all__ = ["FakeCluster", "make_event"]


def __getattr__(name: str) -> Any:
    """FakeCluster brings an HTTP server along: only for those who ask for it."""
    if name == "FakeCluster":
        from kexport.testing.cluster import FakeCluster  # noqa: PLC0415

        return FakeCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
