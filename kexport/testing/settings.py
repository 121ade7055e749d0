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

    ring_capacity: int | None = None
    """How many changes of one resource a watch cache remembers; None: 100 to 102,400, so that 75 s fit."""

    replicas: int = 1
    """How many API servers stand behind the address, each with watch caches of its own."""

    sticky: bool = True
    """Whether a connection stays with its replica; False: each request goes to the next one."""

    watcher_buffer: int = 1000
    """How many changes wait for a client that doesn't read before its watch is closed without a word."""

    bookmark_seconds: float = 60.0
    """How often a watch that asked for bookmarks gets one; `FakeCluster.elapse` spares a test the wait."""

    pretimeout_seconds: float = 2.0
    """How long before the end of its `timeoutSeconds` a watch gets its last bookmark."""

    fresh_wait_seconds: float = 3.0
    """How long a read waits for a resourceVersion that the server has not reached yet."""

    watch_list: bool = True
    """False: an API server without the WatchList feature gate (before 1.34)."""

    watch_compression: bool = True
    """Whether a watch list is sent as gzip, a member a flush, to clients that take it (since 1.37)."""

    scan_items: int | None = None
    """How many objects a page with a limit looks at, at most; None: until it has found enough.

    A page may be empty and yet have a successor."""

    aggregated_discovery: bool = True
    """False: an API server that only knows discovery group by group (before 1.26)."""

    heartbeat_seconds: float | None = None
    """How often the revision grows by itself, as the leases of a real control plane let it grow."""

    restart_revisions: int = 3
    """How many revisions pass while the API server restarts: why a restart usually costs a 410."""
