"""`python -m tests.testbed` builds the servers of the live tests that aren't in the cache yet."""

from __future__ import annotations

import argparse
import sys
import time

from tests.testbed import cache
from tests.testbed.recipes import PARTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print what is cached, build nothing")
    if parser.parse_args().list:
        for part in PARTS:
            print(f"{part.name} {part.version}: {cache.find(part) or 'not built'}")
        return 0
    try:
        build_missing()
    except cache.BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build_missing() -> None:
    with cache.locked():
        cache.remove_leftovers()
        for part in PARTS:
            if cache.find(part):
                print(f"{part.name} {part.version}: cached", flush=True)
                continue
            started = time.monotonic()
            cache.build(part)
            print(
                f"{part.name} {part.version}: built in {time.monotonic() - started:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
