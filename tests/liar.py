"""An API server that answers something else than was asked for."""

from __future__ import annotations

from typing import Any

import msgspec

from kexport.tables import ClusterConfig


class Liar:
    """A server that answers something else than was asked for."""

    def __init__(self, answer: Any) -> None:
        self.config = ClusterConfig()
        self._answer = msgspec.json.encode(answer)

    async def get(self, _path: str, **_query: Any) -> bytes:
        return self._answer


def listing(version: str, *items: dict[str, str]) -> dict[str, Any]:
    whole = [{"metadata": item} for item in items]
    return {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": version},
            "items": whole}  # fmt: skip
