"""A service account's token with a shorter life than the API server would give it, signed with its own key.

TokenRequest refuses less than ten minutes; a test that waits for an expiry needs less. Nothing else of what
the API server has issued is changed, and it judges the result as any other token.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path

# The API server forgives as much, for the sake of clocks that disagree.
_LEEWAY_SECONDS = 60


def shortened(token: bytes, *, key: Path, seconds: float) -> bytes:
    """The same claims, but accepted for `seconds` only; `key` is the API server's signing key (RSA).

    For ten seconds more it may go by what it remembers of a token that it has just accepted.
    """
    head, claims, _ = token.split(b".")
    changed = {**json.loads(_decoded(claims)), "exp": int(time.time() + seconds - _LEEWAY_SECONDS)}
    signed = head + b"." + _encoded(json.dumps(changed).encode())
    command = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    done = subprocess.run(command, input=signed, capture_output=True, check=True)
    return signed + b"." + _encoded(done.stdout)


def _decoded(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
