"""Addresses and contexts that are easily written wrong: each refusal says what to write."""

from pathlib import Path
from typing import Any

import pytest

from kexport.credentials import Credentials
from kexport.errors import ConfigError
from kexport.tables import ClusterConfig


async def refuse(**config: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        await Credentials(ClusterConfig(**config)).load()
    return str(caught.value)


async def test_a_url_without_a_scheme_is_refused_with_both_of_them():
    assert await refuse(url="127.0.0.1:8001") == (
        "cluster.url: '127.0.0.1:8001' has no scheme; write http://127.0.0.1:8001 or https://127.0.0.1:8001"
    )


async def test_an_unknown_context_is_refused_with_those_that_are_there(tmp_path: Path):
    path = tmp_path / "config"
    path.write_text("contexts: [{name: prod-eu}, {name: lab}]", encoding="utf-8")
    assert await refuse(kubeconfig=str(path), context="prod") == (
        "cluster.context: the kubeconfig has no context 'prod', did you mean 'prod-eu'?; it has: prod-eu, lab"
    )


async def test_a_context_is_asked_of_a_kubeconfig_that_has_none(tmp_path: Path):
    path = tmp_path / "config"
    path.write_text("apiVersion: v1", encoding="utf-8")
    assert (await refuse(kubeconfig=str(path), context="prod")).endswith("; it has: none")
