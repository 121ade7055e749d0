"""What really happened, from sources that kexport has no part in, and the verdict on what it delivered."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from tests.live.exporting import wait_until
from tests.testbed import ApiServer, Etcd

Object = tuple[str, str]
"""(resource, namespace/name)"""
History = dict[Object, list[int]]
"""For each object the resourceVersions that it went through, deletions included, in order."""


PATHS = {
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "pods": "/api/v1/namespaces/{}/pods",
    "deployments.apps": "/apis/apps/v1/namespaces/{}/deployments",
    "widgets.example.com": "/apis/example.com/v1/namespaces/{}/widgets",
}
"""What the writer and the controllers change, in one namespace."""


class Witness:
    """A plain watch of each of these resources in one namespace, from here to the block's end."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self._watches = [_RawWatch(api, resource, path.format(namespace)) for resource, path in PATHS.items()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.close()

    def history(self) -> History:
        """What has happened, when nothing happens any more; a watch may yet have to tell the last of it."""
        for watch in self._watches:
            wait_until(watch.has_it_all, seconds=60, what=f"{watch.name} has it all")
        return {
            thing: list(versions)
            for watch in self._watches
            for thing, versions in list(watch.history.items())
        }


class _RawWatch(threading.Thread):
    """A watch of one collection over a connection of its own; it must never be interrupted."""

    def __init__(self, api: ApiServer, resource: str, path: str) -> None:
        super().__init__(name=f"raw watch {resource}", daemon=True)
        self._api, self._resource, self._path = api, resource, path
        address = urlsplit(api.url)
        context = ssl.create_default_context(cafile=str(api.ca_file))
        self._connection = http.client.HTTPSConnection(address.hostname or "", address.port, context=context)
        headers = {"Authorization": f"Bearer {api.token}"}
        self._connection.request("GET", path, headers=headers)
        listing = json.load(self._connection.getresponse())
        query = f"?watch=1&resourceVersion={listing['metadata']['resourceVersion']}&timeoutSeconds=3000"
        self._connection.request("GET", path + query, headers=headers)
        self._response = self._connection.getresponse()
        self.history: History = defaultdict(list)
        self._there = _versions(listing)
        """What there is now, by this watch."""
        self.start()

    def run(self) -> None:
        try:
            for line in self._response:
                event = json.loads(line)
                assert event["type"] in {"ADDED", "MODIFIED", "DELETED"}, event
                metadata = event["object"]["metadata"]
                key = f"{metadata['namespace']}/{metadata['name']}"
                self.history[self._resource, key].append(int(metadata["resourceVersion"]))
                if event["type"] == "DELETED":
                    self._there.pop(key, None)
                else:
                    self._there[key] = metadata["resourceVersion"]
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # closed below

    def has_it_all(self) -> bool:
        """Whether it has told what there is at this moment."""
        assert self.is_alive(), f"{self.name} has ended, and what happened since is not known"
        status, listing = self._api.request("GET", self._path)
        return status == 200 and _versions(json.loads(listing)) == dict(self._there)

    def close(self) -> None:
        if self._connection.sock:
            self._connection.sock.shutdown(2)
        self.join(10)
        self._connection.close()


def _versions(listing: Mapping[str, Any]) -> dict[str, str]:
    """The resourceVersion of each object."""
    each = [item["metadata"] for item in listing["items"]]
    return {f"{its['namespace']}/{its['name']}": its["resourceVersion"] for its in each}


def etcd_history(etcd: Etcd, prefixes: Mapping[str, str], *, since: int, until_key: str) -> History:
    """etcd's own history after revision `since`, up to and with the first write of `until_key`.

    `prefixes` maps a resource to its keys' prefix; needs etcd not to have been compacted behind `since`.
    """
    address = urlsplit(etcd.client_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    everything = {
        "key": _base64("/registry/"),
        "range_end": _base64("/registry0"),
        "start_revision": str(since + 1),
    }
    connection.request("POST", "/v3/watch", json.dumps({"create_request": everything}))
    history: History = defaultdict(list)
    try:
        for line in connection.getresponse():
            result = json.loads(line)["result"]
            assert not result.get("compact_revision"), "etcd was compacted; the truth is gone"
            for event in result.get("events", []):
                key = base64.b64decode(event["kv"]["key"]).decode()
                for resource, prefix in prefixes.items():
                    if key.startswith(prefix):
                        history[resource, key.removeprefix(prefix)].append(int(event["kv"]["mod_revision"]))
                if key == until_key:
                    return history
    finally:
        connection.close()
    raise AssertionError("etcd's watch ended before the last key")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass
class Verdict:
    """What a sink holds, against the truth."""

    changes: int = 0
    delivered: int = 0
    repeated: int = 0
    lost: list[Any] = field(default_factory=list)
    invented: list[Any] = field(default_factory=list)
    out_of_order: list[Any] = field(default_factory=list)
    differing_repeats: list[Any] = field(default_factory=list)

    @property
    def flawless(self) -> bool:
        return not (self.lost or self.invented or self.out_of_order or self.differing_repeats)

    def __str__(self) -> str:
        return (
            f"changes {self.changes}, delivered {self.delivered}, lost {len(self.lost)},"
            f" invented {len(self.invented)}, out of order {len(self.out_of_order)},"
            f" repeated {self.repeated} ({len(self.differing_repeats)} with other bytes)"
        )


def judge(
    lines: Iterable[bytes], truth: History, *, skip: Sequence[str] = (), by_uid: bool = False
) -> Verdict:
    """Compare CloudEvents, in the order in which they arrived, with what happened to each object.

    `skip` are origins that the truth says nothing about, such as the first listing.
    `by_uid` asks for order only among events of one uid: a Kafka topic with several partitions may put the
    next object of the same name into another one.
    """
    verdict = Verdict(changes=sum(map(len, truth.values())))
    seen: dict[str, bytes] = {}
    newest: dict[str, int] = defaultdict(int)
    arrived: dict[Object, set[int]] = defaultdict(set)
    for line in lines:
        event = json.loads(line)
        if not event["type"].startswith("io.kexport.object."):
            continue
        if event["id"] in seen:
            verdict.repeated += 1
            if seen[event["id"]] != line:
                verdict.differing_repeats.append(event["id"])
            continue
        seen[event["id"]] = line
        thing, version = (event["resource"], event["subject"]), int(event["resourceversion"])
        ordered = event["partitionkey"] if by_uid else f"{thing}"
        if version < newest[ordered]:
            verdict.out_of_order.append((thing, newest[ordered], version))
        newest[ordered] = max(newest[ordered], version)
        if event["origin"] in skip:
            continue
        verdict.delivered += 1
        arrived[thing].add(version)
        if version not in truth.get(thing, ()):
            verdict.invented.append((thing, version, event["type"], event["origin"]))
    for thing, versions in truth.items():
        verdict.lost += [(thing, version) for version in versions if version not in arrived[thing]]
    return verdict
