"""Asks a kexport that runs, over the control socket beside its journal."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgspec

from kexport.errors import ConfigError, KexportError
from kexport.request import Answer, Request, place

ANSWER_SECONDS = 10.0


class NotRunningError(KexportError):
    """Nobody answers."""


def ask(directory: Path, request: Request, *, wait_seconds: float | None = ANSWER_SECONDS) -> dict[str, Any]:
    """The answer; raises NotRunningError, ConfigError or KexportError with what was answered instead.

    `wait_seconds` None: however long it takes.
    """
    if str(directory) == ":memory:":
        raise ConfigError('journal.path: a journal in memory (":memory:") has no control socket')
    try:
        with place(directory.expanduser()) as where, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(wait_seconds)
            connection.connect(where.path)
            connection.sendall(msgspec.json.encode(request) + b"\n")
            text = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NotRunningError(
            f"no kexport runs with the journal in {directory}; start it, or name its configuration with -c"
        ) from error
    except TimeoutError as error:
        raise NotRunningError(
            f"the kexport with the journal in {directory} has not answered for {wait_seconds:g} s"
        ) from error
    except OSError as error:
        raise NotRunningError(
            f"the control socket in {directory} cannot be used: {error.strerror or error};"
            " it answers the user that kexport runs as, and root"
        ) from error
    return _understood(text, directory)


def _understood(text: bytes, directory: Path) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(text, type=Answer)
    except msgspec.DecodeError as error:
        raise NotRunningError(
            f"the kexport with the journal in {directory} ended before it answered"
        ) from error
    if answer.ok is None:
        raise (ConfigError if answer.code == 2 else KexportError)(answer.error)
    return answer.ok
