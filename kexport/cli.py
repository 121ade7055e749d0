"""The command line, and the only place that exits. Heavy imports stay inside the commands."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from kexport.errors import ConfigError, KexportError


def main() -> None:
    parser = argparse.ArgumentParser(prog="kexport")
    sub = parser.add_subparsers(dest="command", required=True)
    run = sub.add_parser("run")
    run.add_argument("-c", "--config", type=Path, default=Path("config.toml"))
    arguments = parser.parse_args()
    try:
        _run(arguments)
    except ConfigError as error:
        print(f"kexport: {error}", file=sys.stderr)
        sys.exit(2)
    except KexportError as error:
        print(f"kexport: {error}", file=sys.stderr)
        sys.exit(1)


def _run(arguments: argparse.Namespace) -> None:
    from kexport import config, plugins, telemetry
    from kexport.engine import Engine

    loaded = config.load(arguments.config, plugins.load().types)
    telemetry.set_up_logs(masks={v: n for v, n in loaded.secrets.items() if len(v) > 3})

    async def go():
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal():
            if stop.is_set():
                os._exit(1)
            stop.set()

        for s in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(s, on_signal)
        await Engine(loaded).run(stop)

    asyncio.run(go())
