"""`python -m tests.testbed` builds the servers of the live tests that aren't in the cache yet."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from tests.testbed import cache
from tests.testbed.recipes import BENCH_PARTS, PARTS, ClonedPart, Part


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print what is cached, build nothing")
    parser.add_argument("--bench", action="store_true", help="also build what only the benchmark needs")
    wanted = parser.parse_args()
    if wanted.list:
        for part in (*PARTS, *BENCH_PARTS):
            print(f"{part.name} {part.version}: {cache.find(part) or 'not built'}")
        return 0
    try:
        build_missing((*PARTS, *BENCH_PARTS) if wanted.bench else PARTS)
    except cache.BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build_missing(parts: Sequence[Part]) -> None:
    with cache.locked():
        cache.remove_leftovers()
        for part in parts:
            if cache.find(part):
                print(f"{part.name} {part.version}: cached", flush=True)
                continue
            if isinstance(part, ClonedPart) and not os.environ.get(part.variable):
                print(f"{part.name} {part.version}: left out, {cache.way_to_build(part)}", flush=True)
                continue
            started = time.monotonic()
            cache.build(part)
            print(
                f"{part.name} {part.version}: built in {time.monotonic() - started:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
