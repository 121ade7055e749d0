"""The command line, and the only place that exits. Heavy imports stay inside the commands."""

# ruff: noqa: PLC0415  (`kexport --help` must not wait for a Kubernetes client)
from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from kexport.arguments import parser
from kexport.errors import ConfigError, KexportError
from kexport.startup import cluster_of, load, loader, set_up_logs
from kexport.terminal import lines, mask, takes_colour

T = TypeVar("T")
DONE, FAILED, MISCONFIGURED, INTERRUPTED = 0, 1, 2, 130
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us: `kexport status >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  (for the process's life)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    sys.exit(_attempt(arguments))


def _attempt(arguments: argparse.Namespace) -> int:
    try:
        code = _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except ConfigError as error:
        return _complain(error, MISCONFIGURED)
    except KexportError as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `kexport resources | head`: the interpreter's own flush at exit must find nobody to complain about.
        _close_stdout()
        return DONE
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _close_stdout()
        return _complain(f"standard output cannot be written: {error.strerror}", FAILED)
    return code


def _close_stdout() -> None:
    """What is still in its buffer goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(problem: object, code: int) -> int:
    print(f"kexport: {lines(str(problem))}", file=sys.stderr)
    return code


# -- the commands -----------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    again = _early_signals()
    from kexport.engine import Engine

    read = loader(arguments)
    loaded = read()
    # What was imported stays; and a burst of changes is no reason to look through all of it again and again.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

    async def export(stop: asyncio.Event) -> int:
        engine = Engine(loaded, read)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, engine.reload)
        if again.is_set():
            engine.reload()  # whether what was read is older than the signal nobody knows
        try:
            await engine.run(stop)
            code = DONE
        except KexportError as error:
            text = mask(str(error), loaded.secrets)
            code = _complain(text, MISCONFIGURED if isinstance(error, ConfigError) else FAILED)
        if engine.stuck:
            _leave(code or FAILED)  # a plugin that ignores cancellation would keep the process alive
        return code

    return asyncio.run(_until_signal(export))


def _check(arguments: argparse.Namespace) -> int:
    from kexport import check, findings

    if arguments.explain:
        return _explain(arguments)
    set_up_logs(arguments, level="ERROR")

    async def checked() -> int:
        report = await check.check(
            arguments.config, max_wait_seconds=arguments.timeout, tell=None if arguments.output else print
        )
        if arguments.output:
            print(findings.document(report))
        if report.stuck:
            _leave(report.code)  # the thread in which a plugin waits for ever would keep the process alive
        return report.code

    return asyncio.run(checked())


def _explain(arguments: argparse.Namespace) -> int:
    from kexport import explain, explanation
    from kexport.change import ChangeType, Origin

    found = asyncio.run(
        explain.ask(
            load(arguments, level="ERROR"),
            arguments.explain,
            change=ChangeType(arguments.change),
            origin=Origin(arguments.origin),
            max_wait_seconds=arguments.timeout,
        )
    )
    print(explanation.document(found) if arguments.output else explanation.words(found))
    return DONE


def _status(arguments: argparse.Namespace) -> int:
    from kexport import report

    print(report.status(load(arguments, level="WARNING").root, style=arguments.output or "words"))
    return DONE


def _journal(arguments: argparse.Namespace) -> int:
    from kexport import report

    root = load(arguments, level="WARNING").root
    return report.journal(root, arguments.what, events=arguments.events, resource=arguments.resource)


def _operate(arguments: argparse.Namespace) -> int:
    from kexport import operating

    print(operating.COMMANDS[arguments.command](arguments, load(arguments, level="WARNING").root))
    return DONE


def _top(arguments: argparse.Namespace) -> int:
    from kexport import top

    top.top(Path(load(arguments, level="ERROR").root.journal.path))
    return DONE


def _resources(arguments: argparse.Namespace) -> int:
    from kexport import describe

    set_up_logs(arguments, level="WARNING")
    catalogue = asyncio.run(describe.ask(cluster_of(arguments))).catalogue
    print(describe.resources(catalogue, style=arguments.output or "table"))
    if catalogue.unavailable:
        _complain(f"these groups did not answer: {', '.join(catalogue.unavailable)}", DONE)
    return DONE


def _author(arguments: argparse.Namespace) -> int:
    from kexport import authoring

    authoring.COMMANDS[arguments.command](arguments)
    return DONE


def _tail(arguments: argparse.Namespace) -> int:
    import msgspec

    from kexport import describe, tail

    set_up_logs(arguments, level="WARNING")
    cluster = cluster_of(arguments)
    names = [name for each in arguments.resources for name in each.split(",") if name]

    options = tail.Options(
        cluster,
        names,
        namespaces=arguments.namespace or (),
        label_selector=arguments.selector,
        field_selector=arguments.field_selector,
        since_now=arguments.since_now,
        style=arguments.output or "line",
        diff=arguments.diff,
        coloured=not arguments.no_color and takes_colour(sys.stdout),
    )

    async def follow(stop: asyncio.Event) -> None:
        await tail.tail(options, stop)
        _leave(DONE)  # a write into a pipe that nobody empties would keep its thread, and so the process

    with contextlib.suppress(KeyboardInterrupt):
        # Asked first, so that a wrong address or name ends it at once; the engine would go on trying.
        found = asyncio.run(describe.ask(cluster))
        for name in names:
            found.catalogue.find(name)
        asyncio.run(describe.try_selectors(cluster, tail.streams(options, found.catalogue)))
        options = options._replace(cluster=msgspec.structs.replace(cluster, name=found.uid or "unknown"))
        asyncio.run(_until_signal(follow))
    return DONE


def _demo(_arguments: argparse.Namespace) -> int:
    from kexport import demo

    return demo.main()


_COMMANDS = {
    "check": _check,
    "demo": _demo,
    "journal": _journal,
    "migrate": _author,
    "new-plugin": _author,
    "plugins": _author,
    "rbac": _author,
    "replay": _operate,
    "resources": _resources,
    "run": _run,
    "schema": _author,
    "sinks": _operate,
    "snapshot": _operate,
    "status": _status,
    "tail": _tail,
    "top": _top,
}


# -- what several commands need ---------------------------------------------------------------------------


def _early_signals() -> threading.Event:
    """Nothing is open yet, so SIGTERM may end us as it would later, and SIGHUP must not; whether it came."""
    again = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))
    signal.signal(signal.SIGHUP, lambda *_: again.set())
    return again


async def _until_signal(work: Callable[[asyncio.Event], Awaitable[T]]) -> T:
    """Do it until SIGTERM or SIGINT; at the second signal leave at once, with nothing durable lost."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(FAILED)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return await work(stop)


def _leave(code: int) -> NoReturn:
    """Exit without waiting for threads."""
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
