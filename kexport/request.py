"""What an operator may ask of a kexport that runs: a line of JSON each, over a socket beside the journal.

A connection carries one request and its answer: `{"ok": …}`, or `{"error": "…", "code": 1}` with the exit
code that the command line is to end with. Who hangs up before takes the request back, if that can be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

SOCKET = "control.sock"
MAX_BYTES = 64 << 10  # of a request


class Request(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="do"
):
    """Base of every request; `do` says which."""


class Status(Request, frozen=True, tag="status"):
    """As /status.json; with `changes` also the latest changes, as the status page has them."""

    changes: bool = False


class Snapshot(Request, frozen=True, tag="snapshot"):
    """Tell every object of a resource again; answered when all are told, unless `wait` is false."""

    resource: str
    namespace: str = ""
    wait: bool = True


class Replay(Request, frozen=True, tag="replay"):
    """Repeat stored events to one sink: from position `sequence`, or what was stored since a Unix time.

    `oldest`: where the journal doesn't reach back that far, take what there is.
    """

    sink: str
    sequence: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 0
    since: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    oldest: bool = False


class Retry(Request, frozen=True, tag="retry"):
    """Let a sink that waits after trouble try again now."""

    sink: str


class GiveUp(Request, frozen=True, tag="give-up"):
    """Let a sink go on behind the event that it is held at, `event` by id or position.

    With `park` the events are stored first: in the parking file, or with the sink `to`.
    """

    sink: str
    event: str
    count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    park: bool = False
    to: str = ""


AnyRequest = Status | Snapshot | Replay | Retry | GiveUp
decoder = msgspec.json.Decoder(AnyRequest)


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`ok`, or else `error` and `code`."""

    ok: dict[str, Any] | None = None
    error: str = ""
    code: int = 0


class Place(NamedTuple):
    """The socket's `path`, for bind and connect, and a descriptor of the journal's `directory`."""

    path: str
    directory: int


@contextmanager
def place(directory: Path) -> Iterator[Place]:
    """The socket's place while this is open; raises OSError.

    Through the opened directory, since the path of a socket may have 107 bytes only.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Place(f"/proc/self/fd/{descriptor}/{SOCKET}", descriptor)
    finally:
        os.close(descriptor)
