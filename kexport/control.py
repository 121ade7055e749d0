"""The operator's hands on a running exporter: a Unix socket beside the journal, for its owner alone.

Only the process that holds the journal's lock makes it, replaces one that a crash left, and removes it. A
request is read and answered on the loop that exports, in small steps: whoever asks nonsense, sends too much,
or doesn't read the answer, gets an error or is dropped, and nothing else happens.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from kexport.errors import ConfigError, KexportError
from kexport.request import MAX_BYTES, SOCKET, Answer, AnyRequest, decoder, place
from kexport.telemetry import get_log
from kexport.waiting import end

MOST = 16  # connections at a time
READ_SECONDS = 5.0
WRITE_SECONDS = 5.0
CLOSE_SECONDS = 1.0
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7)
_log = get_log("control")
Answering = Callable[[AnyRequest], Awaitable[dict[str, Any]]]


class Control:
    """`async with Control(directory, answer)`; without a directory (a journal in memory) there is none.

    `answer` raises KexportError with what the operator is to read.
    """

    def __init__(self, directory: Path | None, answer: Answering) -> None:
        self._directory = directory
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open = ExitStack()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._directory:
            try:
                await self._listen(self._directory)
            except OSError as error:
                # Exporting is what counts; not every file system has sockets.
                _log.warning("no control socket", directory=self._directory, error=error)
                self._close()
            except BaseException:
                self._close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server:
            self._server.close()  # nobody new while the last are waited for
        await end(self._connections, seconds=CLOSE_SECONDS)
        self._close()

    def _close(self) -> None:
        if self._server:
            self._server.close()
        self._open.close()

    async def _listen(self, directory: Path) -> None:
        where = self._open.enter_context(place(directory))
        _remove(where.directory)
        listening = self._open.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listening.bind(where.path)
        self._open.callback(_remove, where.directory)
        Path(where.path).chmod(0o600)  # nobody can connect before it listens
        # In two steps: cancelled in the middle of one, it would listen, and nobody could close it.
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listening, limit=MAX_BYTES, start_serving=False
        )
        await self._server.start_serving()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Known from here on: a task that is cancelled before its first step closes nothing by itself.
        task = asyncio.ensure_future(self._connected(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(lambda task: writer.transport.abort() if task.cancelled() else writer.close())

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (OSError, TimeoutError) as error:
            _log.debug("a control connection ended early", error=error)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if problem := self._refusal(writer):
            answer = Answer(error=problem, code=1)
        else:
            try:
                request = await _read(reader)
            except KexportError as error:
                answer = _refused(error)
            else:
                work = asyncio.ensure_future(self._answered(request))
                if not await _while_connected(work, reader):
                    return
                answer = work.result()
        writer.write(msgspec.json.encode(answer) + b"\n")
        async with asyncio.timeout(WRITE_SECONDS):
            await writer.drain()

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        if len(self._connections) > MOST:
            return f"{MOST} requests are being answered already; try again"
        peer = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        _, user, _ = _CREDENTIALS.unpack(peer)
        return "" if may_ask(user, owner=os.geteuid()) else "only the owner of the journal may ask"

    async def _answered(self, request: AnyRequest) -> Answer:
        try:
            return Answer(ok=await self._answer(request))
        except KexportError as error:
            return _refused(error)
        except Exception as error:  # noqa: BLE001  (a bug here must not reach what exports)
            _log.exception("unexpected error in a control request", error)
            return Answer(error=f"unexpected error: {type(error).__name__}; the log has more", code=1)


def may_ask(user: int, *, owner: int) -> bool:
    """Whether this user may: the file's mode says so already, unless somebody changed it."""
    return user in {0, owner}


async def _read(reader: asyncio.StreamReader) -> AnyRequest:
    """The request; raises KexportError for what is none."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        raise ConfigError(f"a request has at most {MAX_BYTES} bytes") from error
    except asyncio.IncompleteReadError as error:
        raise ConfigError("a request is a line of JSON; this one did not end") from error
    except TimeoutError as error:
        raise ConfigError(f"no request came within {READ_SECONDS:g} s") from error
    try:
        request: AnyRequest = decoder.decode(line)
        return request
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"this is no request: {error}") from error


async def _while_connected(work: asyncio.Future[Any], reader: asyncio.StreamReader) -> bool:
    """Wait for the work; it is given up, and this false, when whoever asked hangs up."""
    gone: asyncio.Future[Any] = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        gone.cancel()
        work.cancel()
        await asyncio.wait([work, gone])
        if not gone.cancelled():
            gone.exception()


def _refused(error: KexportError) -> Answer:
    return Answer(error=str(error), code=2 if isinstance(error, ConfigError) else 1)


def _remove(directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(SOCKET, dir_fd=directory)
