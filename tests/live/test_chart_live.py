"""An installation by helm from the first minute to the last, on the real API server, controllers and Kafka.

The Pod that the StatefulSet's controller makes is run from the image that was built, as the user, with the
files, the token and the permissions that the chart gives it; the API server enforces all of these.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.live.chart_site import HOME, PREFIXES, TIMEOUT, Site
from tests.live.exporting import file_lines, wait_until
from tests.live.truth import judge
from tests.live.writer import Writer
from tests.testbed import Kafka
from tests.testbed.image import Image

RBAC = "/apis/rbac.authorization.k8s.io/v1"
CLAIM = "journal-kexport-0"
SERVER_REMEMBERS_SECONDS = 60  # 75, less what may pass between an event and what is measured here


class Steps:
    """Prints each step with its time and verdict."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def done(self, what: str, verdict: str = "ok") -> None:
        now = time.monotonic()
        print(f"\n── {now - self._began:6.1f} s  {what}: {verdict}", end="", flush=True)
        self._began = now


@pytest.fixture
def site(tmp_path: Path, kafka: Kafka) -> Iterator[Site]:
    image = Image()
    image.build()
    with ExitStack() as stack:
        site = Site(tmp_path, image, kafka, stack)
        yield site


def test_from_installation_to_removal_nothing_is_lost(site: Site) -> None:
    steps = Steps()
    writer = Writer(site.api, site.name, changes=100_000, per_second=30, seed=random.randrange(1 << 30))
    writer.prepare()
    writer.wait_until_quiet()
    start = site.etcd.revision()

    notes = site.release("install", site.values())
    assert f"{CLAIM}. `helm uninstall` leaves it" in " ".join(notes.split())
    started = site.kubelet.pod("kexport-0").started_seconds
    steps.done("helm install --wait", f"ready; the process answered after {started:.1f} s")
    # A stream counts as synced with its listing, a moment before its watch is open.
    once = [1] * len(PREFIXES)
    wait_until(lambda: [*site.watches().values()] == once, seconds=60, what="each stream is watched")

    first_token = site.token()
    needs_every_permission(site, steps)
    site.helm.run("test", "kexport", "--namespace", HOME, TIMEOUT)
    steps.done("helm test", "kexport check passed in a Pod of its own")

    writer.start()
    wait_until(lambda: site.topic_has('"origin":"watch"'), seconds=30, what="changes arrive")
    steps.done("changes", "arrive in Kafka")

    renews_its_token(site, steps, first_token)
    grows(site, steps)
    restarts(site, steps)
    is_forbidden(site, steps)

    writer.stop()
    writer.finish()
    truth = site.truth(since=start)
    wait_until(site.has_all, seconds=60, what="the last change of each resource arrives")
    # The first listing was over before the first of these changes: each of them must come as it happened.
    ours = (line for line in site.topics.read() if json.loads(line)["resource"] in PREFIXES)
    verdict = judge(ours, truth, skip=("snapshot",))
    steps.done("all changes", str(verdict))
    assert verdict.flawless, verdict
    assert_nothing_missed(site)
    is_removed(site, steps)


def assert_nothing_missed(site: Site) -> None:
    """No gap; where the machine kept it away for so long that the server forgot, one without a loss."""
    told = [json.loads(line) for line in site.topics.read() if b"stream.gap" in line]
    gaps = [each["data"]["object"] for each in told]
    assert all(gap["complete"] for gap in gaps), gaps
    assert not gaps or site.longest_absence() > SERVER_REMEMBERS_SECONDS, gaps


def needs_every_permission(site: Site, steps: Steps) -> None:
    """Without any one of the permissions that the chart grants, `helm test` names what is missing."""
    role = site.write("GET", f"{RBAC}/namespaces/{site.name}/roles/{HOME}:kexport")
    del role["metadata"]["resourceVersion"]
    granted = [
        (verb, resource, rule["apiGroups"][0])
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert len(granted) == 2 * len(PREFIXES)
    for permission in granted:
        kept = [each for each in granted if each != permission]
        grant(site, role, kept)
        assert site.helm.try_("test", "kexport", "--namespace", HOME, TIMEOUT).code != 0, permission
        verb, resource, group = permission
        name = f"{resource}.{group}".rstrip(".")
        assert f"may not {verb} {name} in namespace {site.name}" in site.kubelet.pod("kexport-check").tail()
    # Helm leaves alone what others have changed, unless it is told that its own word counts.
    site.release("upgrade", site.values(), "--force-conflicts")
    wait_until_granted(site, granted)
    steps.done("each permission taken away", f"{len(granted)} times named by kexport check")


def grant(site: Site, role: dict[str, Any], permissions: list[tuple[str, str, str]]) -> None:
    """Give the role these and no others, and wait until the API server acts on it."""
    rules = [
        {"apiGroups": [group], "resources": [name], "verbs": [verb]} for verb, name, group in permissions
    ]
    site.write("PUT", f"{RBAC}/namespaces/{site.name}/roles/{HOME}:kexport", {**role, "rules": rules})
    wait_until_granted(site, permissions)


def wait_until_granted(site: Site, permissions: list[tuple[str, str, str]]) -> None:
    everything = [
        (verb, name, group)
        for name, group in (("configmaps", ""), ("widgets", "example.com"))
        for verb in ("list", "watch")
    ]
    wait_until(
        lambda: {each for each in everything if may(site, *each)} == set(permissions),
        seconds=60,
        what="the API server acts on the role",
    )


def may(site: Site, verb: str, resource: str, group: str) -> bool:
    attributes = {"namespace": site.name, "verb": verb, "resource": resource, "group": group}
    spec = {"user": f"system:serviceaccount:{HOME}:kexport", "resourceAttributes": attributes}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(site.write("POST", path, {"spec": spec})["status"]["allowed"])


def renews_its_token(site: Site, steps: Steps, first: str) -> None:
    """The token it began with is over, and it goes on; nor does it fall over a node that renews too late."""
    watches = site.watches()
    assert set(watches.values()) == {1}, watches
    wait_until(lambda: not site.accepts(first), seconds=60, what="the API server refuses the first token")
    wait_until(lambda: site.accepts(site.token()), seconds=30, what="the Pod has another one")
    late = late_renewal(site)
    # A stream counts as synced with its listing, a moment before its watch is open.
    wait_until(lambda: late.items() <= site.watches().items(), seconds=30, what="what came late is watched")
    assert site.watches() == {**watches, **late}, "a token is no reason to watch anew"
    steps.done("the token is over", "the API server refuses it, and each watch is still the first one")


def late_renewal(site: Site) -> dict[str, int]:
    """While the token in its file is refused, what is open goes on, and what needs a request says so."""
    with site.kubelet.without_renewals():
        wait_until(lambda: not site.accepts(site.token()), seconds=60, what="the token is over")
        # Helm could wait for long: the Pod is not to become ready.
        site.release("upgrade", site.values("services"), wait=False)
        failing = f"[-]stream services/{site.name} failed: not synced yet, unauthorized: "
        wait_until(lambda: failing in site.ask("/readyz")[1], seconds=60, what="it says that it is nobody")
        count = len(site.topics.read())
        wait_until(lambda: len(site.topics.read()) > count, seconds=30, what="open watches go on")
    wait_until(lambda: site.ask("/readyz")[0] == 200, seconds=60, what="the new token is taken")
    return {f"services/{site.name}": 1}


def grows(site: Site, steps: Steps) -> None:
    """A new sink and a new resource: taken up by the running process, with the permission it needs."""
    before = site.pod()["metadata"]["uid"]
    values = site.values("deployments.apps")
    values["config"]["sinks"]["copy"] = {"type": "file", "path": "/var/lib/kexport/copy.jsonl"}
    site.release("upgrade", values)
    copy = site.kubelet.claim(CLAIM) / "copy.jsonl"
    wait_until(
        lambda: site.topic_has('"resource":"deployments.apps"'), seconds=60, what="the resource streams"
    )
    wait_until(lambda: bool(file_lines(copy)), seconds=30, what="the new sink is written to")
    assert site.pod()["metadata"]["uid"] == before
    steps.done("helm upgrade with another sink and resource", "both stream, without a restart")


def restarts(site: Site, steps: Steps) -> None:
    """What is read at the start alone, a rollback, and a Pod that somebody deletes: the position is kept."""
    old = site.pod()["metadata"]["uid"]
    site.release("upgrade", site.values("deployments.apps", journal={"keep_seconds": 60}))
    wait_until(lambda: site.pod_is_new_and_ready(old), seconds=60, what="another Pod is ready")
    steps.done("helm upgrade with another journal", f"restarted, {how_it_stopped(site)}")

    old = site.pod()["metadata"]["uid"]
    reason = is_not_admitted(site)
    steps.done("helm upgrade with allowPrivilegeEscalation", f"no Pod: {reason}")

    site.helm.run("rollback", "kexport", "1", "--namespace", HOME, "--wait", TIMEOUT)
    wait_until(lambda: site.pod_is_new_and_ready(old), seconds=60, what="the Pod of before is ready")
    steps.done("helm rollback", f"restarted, {how_it_stopped(site)}")

    old = site.pod()["metadata"]["uid"]
    site.write("DELETE", f"/api/v1/namespaces/{HOME}/pods/kexport-0")
    wait_until(lambda: site.pod_is_new_and_ready(old), seconds=60, what="the Pod is made again")
    steps.done("kubectl delete pod", f"made again, {how_it_stopped(site)}")


def is_not_admitted(site: Site) -> str:
    """The namespace enforces Pod Security "restricted": what is weaker than the chart gets no Pod."""
    values = site.values("deployments.apps")
    values["securityContext"] = {"allowPrivilegeEscalation": True}
    site.release("upgrade", values, wait=False)
    wait_until(lambda: bool(refusals(site)), seconds=60, what="the namespace refuses the Pod")
    return refusals(site)[0]


def refusals(site: Site) -> list[str]:
    """Why the StatefulSet's controller could not make a Pod, as far as the policy was the reason."""
    told = site.write("GET", f"/api/v1/namespaces/{HOME}/events?fieldSelector=reason%3DFailedCreate")
    pattern = r'violates PodSecurity "restricted:latest": [^(]+'
    found = [re.search(pattern, each["message"]) for each in told["items"]]
    return [match[0].strip() for match in found if match]


def how_it_stopped(site: Site) -> str:
    last = [pod for pod in site.kubelet.ended if pod.name == "kexport-0"][-1]
    assert (last.exit_code, last.killed) == (0, False), last.tail()
    return f"exit code 0 after {last.stopped_seconds:.1f} s"


def is_forbidden(site: Site, steps: Steps) -> None:
    """A resource without permission: said, not ready, and the others go on."""
    values = site.values("serviceaccounts")
    values["rbac"]["create"] = False
    pod = site.pod()["metadata"]["uid"]
    site.release("upgrade", values, wait=False)
    failing = f"[-]stream serviceaccounts/{site.name} failed: "
    wait_until(lambda: failing in site.ask("/readyz")[1], seconds=60, what="it says that it is forbidden")
    assert site.ask("/livez")[0] == 200
    count = len(site.topics.read())
    wait_until(lambda: len(site.topics.read()) > count, seconds=30, what="other streams go on")
    line = next(line for line in site.ask("/readyz")[1].splitlines() if line.startswith(failing))
    site.helm.run("rollback", "kexport", "--namespace", HOME, "--wait", TIMEOUT)
    wait_until(lambda: site.ask("/readyz")[0] == 200, seconds=60, what="it is ready again")
    assert site.pod()["metadata"]["uid"] == pod
    steps.done("a resource without permission", f"{line.partition('failed: ')[2]!r}, the others go on")


def is_removed(site: Site, steps: Steps) -> None:
    site.helm.run("uninstall", "kexport", "--namespace", HOME, "--wait", TIMEOUT)
    wait_until(lambda: not items(site, "/api/v1", "pods"), seconds=60, what="the Pod is gone")
    roles = site.write("GET", f"{RBAC}/namespaces/{site.name}/roles")["items"]
    assert roles == []
    # What had the StatefulSet as its owner is deleted behind it.
    wait_until(lambda: left(site) <= {f"persistentvolumeclaims/{CLAIM}"}, seconds=60, what="the rest is gone")
    assert left(site) == {f"persistentvolumeclaims/{CLAIM}"}
    steps.done("helm uninstall", f"stopped with {how_it_stopped(site)}; left is the claim {CLAIM}")


def left(site: Site) -> set[str]:
    """What is there of the kinds that the chart makes, besides what was there before."""
    kinds = {
        "/api/v1": ("configmaps", "secrets", "services", "serviceaccounts", "persistentvolumeclaims"),
        "/apis/apps/v1": ("statefulsets", "controllerrevisions"),
        RBAC: ("roles", "rolebindings"),
    }
    found = {name for group, names in kinds.items() for kind in names for name in items(site, group, kind)}
    return found - {
        "configmaps/kube-root-ca.crt",
        "serviceaccounts/default",
        "secrets/kafka-env",
        "secrets/kafka-files",
    }


def items(site: Site, group: str, kind: str) -> set[str]:
    site.alive()
    found = site.write("GET", f"{group}/namespaces/{HOME}/{kind}")["items"]
    return {f"{kind}/{each['metadata']['name']}" for each in found}
