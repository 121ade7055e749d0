"""What a fake cluster can be told to be: the options of `FakeCluster`, each with the real server's default.

They may be changed while the server runs; the next request sees the new value.
"""

from dataclasses import dataclass


@dataclass(kw_only=True, eq=False)
class Settings:
    token: str | None = None
    """Bearer token that every request must carry; None: everybody is let in."""

    user: str = "tester"
    """The name that 403 messages carry."""

    version: str = "v1.37.2"
    """What `/version` answers as gitVersion."""

    port: int = 0
    """The TCP port on loopback; 0: a free one, kept over restarts."""

    first_revision: int = 1000
    """Where etcd's counter stands before the first object."""

    ring_capacity: int = 10_000
    """How many changes of one resource the watch cache remembers."""

    watcher_buffer: int = 1000
    """How many changes wait for a client that doesn't read before its watch is closed without a word."""

    bookmark_seconds: float = 60.0
    """How often a watch that asked for bookmarks gets one."""

    fresh_wait_seconds: float = 3.0
    """How long a read waits for a resourceVersion that the server has not reached yet."""

    watch_list: bool = True
    """False: an API server without the WatchList feature gate (before 1.34)."""

    aggregated_discovery: bool = True
    """False: an API server that only knows discovery group by group (before 1.26)."""

    heartbeat_seconds: float | None = None
    """How often the revision grows by itself, as the leases of a real control plane let it grow."""

    restart_revisions: int = 3
    """How many revisions pass while the API server restarts: why a restart usually costs a 410."""
