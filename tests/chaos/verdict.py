"""The verdict on one sink: each object's versions as they were delivered against those that etcd had.

Lost is a version that neither came nor lies in a gap which the sink was told of as incomplete. Those that do
are counted as announced: permitted, but never passed over in silence.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from tests.chaos.truth import Step
from tests.live.truth import Object

State = dict[Object, str]
GONE = "deleted"


class Gap(NamedTuple):
    since: int
    until: int
    complete: bool


class Flaw(NamedTuple):
    """One thing that must not be; `version` 0: no version of it in particular."""

    kind: str
    thing: Object
    version: int
    what: str = ""


@dataclass
class Verdict:
    changes: int = 0
    delivered: int = 0
    repeated: int = 0
    recovered: int = 0
    inferred: int = 0
    announced: int = 0
    gaps: dict[str, list[Gap]] = field(default_factory=lambda: defaultdict(list))
    flaws: list[Flaw] = field(default_factory=list)

    def count(self, kind: str) -> int:
        return sum(flaw.kind == kind for flaw in self.flaws)

    def announces(self, resource: str, version: int) -> bool:
        """Whether a gap was told in which this version may be missing."""
        return any(
            gap.since < version <= gap.until and not gap.complete for gap in self.gaps.get(resource, ())
        )


KINDS = ("lost", "invented", "out of order", "other bytes", "unmarked gap", "other state")
"""Of flaws; a repeat with the bytes of the first is none."""


def judge(lines: Iterable[bytes], truth: Mapping[Object, Sequence[Step]], *, final: State) -> Verdict:
    """`lines` as they arrived; `final` is what the cluster has in the end."""
    judging = _Judging(truth)
    for line in lines:
        judging.take(line)
    return judging.end(final)


class _Judging:
    def __init__(self, truth: Mapping[Object, Sequence[Step]]) -> None:
        self._truth = {thing: {step.version: step.change for step in steps} for thing, steps in truth.items()}
        self._verdict = Verdict(changes=sum(map(len, truth.values())))
        self._seen: dict[str, bytes] = {}
        self._newest: dict[Object, int] = defaultdict(int)
        self._uids: dict[Object, list[str]] = defaultdict(list)
        self._arrived: dict[Object, set[int]] = defaultdict(set)
        self._inferred: list[tuple[Object, int]] = []
        self._state: State = {}

    def take(self, line: bytes) -> None:
        event = msgspec.json.decode(line)
        if event["id"] in self._seen:
            self._verdict.repeated += 1
            if self._seen[event["id"]] != line:
                self._flaw("other bytes", event)
            return
        self._seen[event["id"]] = line
        if event["type"] in {"io.kexport.stream.gap", "io.kexport.stream.rollback"}:
            told = event["data"]["object"]
            gap = Gap(int(told["from"] or 0), int(told["to"]), told["complete"])
            self._verdict.gaps[event["resource"]].append(gap)
        elif event["type"].startswith("io.kexport.object."):
            self._change(event)

    def _change(self, event: dict[str, Any]) -> None:
        thing, version = _thing(event), int(event["resourceversion"])
        change = event["type"].rpartition(".")[2]
        self._order(event, thing, version, inferred_deletion=(change, event["origin"]) == (GONE, "resync"))
        if change == GONE:
            self._state.pop(thing, None)
        else:
            self._state[thing] = canonical(event["data"]["object"])
        if event["origin"] == "snapshot":
            return
        self._verdict.delivered += 1
        self._verdict.recovered += event["origin"] == "recovered"
        steps = self._truth.get(thing, {})
        if event["origin"] == "resync":
            self._verdict.inferred += 1
            self._inferred.append((thing, version))
            # When an object went nobody knows any more, only that it did; and how often it changed neither.
            real = any(was == GONE and at <= version for at, was in steps.items()) if change == GONE else (
                steps.get(version, GONE) != GONE
            )  # fmt: skip
        else:
            real = steps.get(version) == change
        if real:
            self._arrived[thing].add(version)
        else:
            self._flaw("invented", event)

    def _order(self, event: dict[str, Any], thing: Object, version: int, *, inferred_deletion: bool) -> None:
        uids, uid = self._uids[thing], event["partitionkey"]
        if uid not in uids:
            uids.append(uid)
        if uids[-1] != uid or (version < self._newest[thing] and not inferred_deletion):
            self._flaw("out of order", event)
        if not inferred_deletion:  # its version is the listing's, not one of the object's own
            self._newest[thing] = max(self._newest[thing], version)

    def _flaw(self, kind: str, event: dict[str, Any]) -> None:
        what = (
            f"{event['type'].rpartition('.')[2]} {event.get('origin')} {event['id']} at {event.get('time')}"
        )
        self._verdict.flaws.append(Flaw(kind, _thing(event), int(event.get("resourceversion") or 0), what))

    def end(self, final: State) -> Verdict:
        verdict = self._verdict
        for thing, steps in self._truth.items():
            for version in steps.keys() - self._arrived[thing]:
                if verdict.announces(thing[0], version):
                    verdict.announced += 1
                else:
                    verdict.flaws.append(Flaw("lost", thing, version, steps[version]))
        for thing, version in self._inferred:
            if not verdict.announces(thing[0], version):
                verdict.flaws.append(Flaw("unmarked gap", thing, version, "inferred outside of any gap"))
        for thing in final.keys() | self._state.keys():
            if final.get(thing) != self._state.get(thing):
                has = [name for name, state in (("cluster", final), ("sink", self._state)) if thing in state]
                verdict.flaws.append(Flaw("other state", thing, 0, f"exists in: {', '.join(has)}"))
        verdict.flaws.sort()
        return verdict


def canonical(item: dict[str, Any]) -> str:
    """An object as far as it is told: lists leave out kind, and managedFields never leave the cluster."""
    body = {key: value for key, value in item.items() if key not in {"kind", "apiVersion"}}
    body["metadata"] = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return json.dumps(body, sort_keys=True)


def _thing(event: dict[str, Any]) -> Object:
    return event.get("resource", ""), event.get("subject", "")
