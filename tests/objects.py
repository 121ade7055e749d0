"""What tests of streams make on a FakeCluster, and how they look at what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kexport.testing.cluster import FakeCluster
from tests.exporter import Memory, toml

WIDGETS = "widgets.example.com"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


def config(fake: FakeCluster, tmp_path: Path, resource: str = WIDGETS, **cluster: Any) -> str:
    table = {"url": fake.url, "rediscover_seconds": 0.05, **cluster}
    return toml(tmp_path, table, [{"resource": resource}])


def define(fake: FakeCluster, *versions: str) -> dict[str, Any]:
    """Install, or change, the definition of widgets; the first version is the preferred one."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": WIDGETS},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [
                {"name": name, "served": True, "storage": name == versions[0], "schema": schema}
                for name in versions
            ],
        },
    }
    there = any(each["metadata"]["name"] == WIDGETS for each in fake.list(DEFINITIONS))
    return (fake.update if there else fake.create)(definition)


def widget(fake: FakeCluster, name: str, version: str = "v1") -> dict[str, Any]:
    return fake.create({"apiVersion": f"example.com/{version}", "kind": "Widget", "metadata": {"name": name}})


def configmap(fake: FakeCluster, name: str, **data: str) -> dict[str, Any]:
    return fake.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def deployment(fake: FakeCluster, name: str) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, "image": name}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return fake.create(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    )


def seen(memory: Memory) -> list[tuple[str, str]]:
    return [(event.change, event.attributes.objname) for event in memory.events]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def occurrence(fake: FakeCluster, name: str) -> dict[str, Any]:
    about = {"kind": "Pod", "namespace": "default", "name": "web"}
    return fake.create(
        {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": about}
    )


def beat(fake: FakeCluster) -> bool:
    """Let a bookmark come, as it does every minute: what an idle stream's audits begin and end with."""
    fake.heartbeat()
    fake.bookmark()
    return True
