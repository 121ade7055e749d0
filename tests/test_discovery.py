"""What the server serves, both ways of asking, and how the names that people write resolve to it."""

import json
from contextlib import asynccontextmanager

import pytest

from kexport.change import Resource
from kexport.discovery import Catalogue, discover
from kexport.errors import ApiError, ConfigError, ConnectionLostError, KexportError
from kexport.kube import Client
from kexport.tables import ClusterConfig
from kexport.testing.cluster import FakeCluster
from kexport.testing.faults import Reply
from kexport.testing.raw import serving

RW = ("list", "watch")


def resource(name, group="", *, version="v1", verbs=RW, **more):
    kind = more.pop("kind", name.removesuffix("s").capitalize())
    return Resource(
        group=group,
        version=version,
        name=name,
        kind=kind,
        namespaced=True,
        verbs=verbs,
        singular=kind.lower(),
        **more,
    )


PODS = resource("pods", short_names=("po",))
DEPLOYMENTS = resource("deployments", "apps", short_names=("deploy",))
CERTIFICATES = resource("certificates", "cert-manager.io", short_names=("cert",))
OLD_CERTIFICATES = resource("certificates", "cert-manager.io", version="v1alpha2")
OTHER_PODS = resource("pods", "metrics.k8s.io", version="v1beta1", kind="PodMetrics")
EVENTS = resource("events")
EVENTS_AGAIN = resource("events", "events.k8s.io")
REVIEWS = resource("tokenreviews", "authentication.k8s.io", verbs=("create",))
SERVED = (PODS, EVENTS, DEPLOYMENTS, CERTIFICATES, EVENTS_AGAIN, OTHER_PODS, REVIEWS)
CATALOGUE = Catalogue(SERVED, ("metrics.example/v1",), (*SERVED, OLD_CERTIFICATES))


def definition(plural, *versions):
    served = [
        {
            "name": version,
            "served": True,
            "storage": version == versions[0],
            "schema": {"openAPIV3Schema": {}},
        }
        for version in versions
    ]
    names = {
        "plural": plural,
        "kind": plural.capitalize(),
        "singular": plural[:-1],
        "shortNames": [plural[:2]],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.shop.example"},
        "spec": {"group": "shop.example", "names": names, "scope": "Namespaced", "versions": served},
    }


@asynccontextmanager
async def connected(url):
    client = Client(ClusterConfig(url=url, list_requests_per_second=10_000))
    await client.open()
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture(params=[True, False], ids=["aggregated", "by group"])
async def cluster(request):
    async with FakeCluster(aggregated_discovery=request.param) as cluster:
        yield cluster


@asynccontextmanager
async def answering(**documents):
    """A client of a server that answers /api and /apis with these documents, or with this text."""

    async def talk(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            document = documents[head.split()[1].decode().strip("/").partition("?")[0]]
            body = (document if isinstance(document, str) else json.dumps(document)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    async with serving(talk) as port, connected(f"http://127.0.0.1:{port}") as client:
        yield client


async def ask(cluster):
    async with connected(cluster.url) as client:
        return await discover(client)


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pods", PODS),
        ("pod", PODS),
        ("Pod", PODS),
        ("po", PODS),
        ("PODS", PODS),
        ("pods.metrics.k8s.io", OTHER_PODS),
        ("deploy", DEPLOYMENTS),
        ("deployments.apps", DEPLOYMENTS),
        ("deployments.v1.apps", DEPLOYMENTS),
        ("Deployment.apps", DEPLOYMENTS),
        ("certificates.cert-manager.io", CERTIFICATES),
        ("certificates.v1.cert-manager.io", CERTIFICATES),
        ("certificates.v1alpha2.cert-manager.io", OLD_CERTIFICATES),
        ("pods.v1.", PODS),
        ("events", EVENTS),
        ("events.events.k8s.io", EVENTS_AGAIN),
    ],
)
def test_a_name_means_what_kubectl_means_by_it(name, found):
    assert CATALOGUE.find(name) == [found]


@pytest.mark.parametrize("name", ["pods.apps", "deployments.v2.apps", "certificates.v9.cert-manager.io", ""])
def test_a_name_that_does_not_fit_is_unknown(name):
    with pytest.raises(ConfigError, match="unknown resource"):
        CATALOGUE.find(name)


def test_a_star_is_what_can_be_watched_and_no_object_twice():
    assert CATALOGUE.find("*") == [PODS, EVENTS, DEPLOYMENTS, CERTIFICATES, OTHER_PODS]


def test_a_pattern_matches_full_names():
    assert CATALOGUE.find("*.apps") == [DEPLOYMENTS]
    assert CATALOGUE.find("cert*.cert-manager.io") == [CERTIFICATES]


@pytest.mark.parametrize("pattern", ["*.batch", "tokenreviews.*"])
def test_a_pattern_that_matches_nothing_watchable_is_refused(pattern):
    with pytest.raises(ConfigError, match="matches nothing that can be watched"):
        CATALOGUE.find(pattern)


def test_a_resource_that_cannot_be_watched_is_refused_with_what_is_offered():
    with pytest.raises(ConfigError, match="the server only offers create on it"):
        CATALOGUE.find("tokenreviews")


def test_an_unknown_resource_is_refused_with_a_suggestion_and_who_did_not_answer():
    with pytest.raises(ConfigError) as caught:
        CATALOGUE.find("deploymnts")
    message = str(caught.value)
    assert message.startswith("unknown resource 'deploymnts', did you mean 'deployments'?")
    assert "groups that did not answer: metrics.example/v1" in message
    assert "`kexport resources`" in message


# -- asking -----------------------------------------------------------------------------------------------


async def test_built_in_resources_are_found_with_all_that_names_them(cluster):
    catalogue = await ask(cluster)
    (found,) = catalogue.find("deploy")
    assert (found.full_name, found.api_version, found.kind) == ("deployments.apps", "apps/v1", "Deployment")
    assert (found.namespaced, found.singular, found.short_names) == (True, "deployment", ("deploy",))
    assert found.categories == ("all",)
    assert not catalogue.find("nodes")[0].namespaced
    assert catalogue.unavailable == ()


async def test_both_ways_of_asking_say_the_same():
    async with FakeCluster() as one, FakeCluster(aggregated_discovery=False) as two:
        aggregated, by_group = await ask(one), await ask(two)
    assert {each.full_name: each for each in aggregated.resources} == {
        each.full_name: each for each in by_group.resources
    }


async def test_subresources_are_no_resources(cluster):
    assert not [each for each in (await ask(cluster)).resources if "/" in each.name]


async def test_a_custom_resource_is_found_once_it_is_served(cluster):
    cluster.create(definition("widgets", "v1"))
    assert (await ask(cluster)).find("wi")[0].full_name == "widgets.shop.example"


async def test_the_preferred_version_comes_first_and_others_can_be_asked_for(cluster):
    cluster.create(definition("widgets", "v2", "v1"))
    catalogue = await ask(cluster)
    assert [each.version for each in catalogue.resources if each.name == "widgets"] == ["v2"]
    assert catalogue.find("widgets.v1.shop.example")[0].version == "v1"


async def test_a_group_that_is_down_is_named_and_the_others_are_found():
    async with FakeCluster(aggregated_discovery=False) as cluster:
        cluster.fail(503, path_contains="/apis/apps/v1")
        catalogue = await ask(cluster)
    assert catalogue.unavailable == ("apps/v1",)
    assert catalogue.find("pods")
    with pytest.raises(ConfigError, match=r"groups that did not answer: apps/v1"):
        catalogue.find("deployments")


async def test_a_stale_group_is_down_and_not_empty():
    stale = {"version": "v1", "freshness": "Stale", "resources": []}
    current = {"version": "v1", "resources": [{"resource": "pods", "scope": "Namespaced", "verbs": ["list"]}]}
    apis = {"kind": "APIGroupDiscoveryList", "items": [{"metadata": {"name": "x.y"}, "versions": [stale]}]}
    api = {"kind": "APIGroupDiscoveryList", "items": [{"metadata": {}, "versions": [current]}]}
    async with answering(api=api, apis=apis) as client:
        catalogue = await discover(client)
    assert catalogue.unavailable == ("x.y/v1",)
    assert [each.full_name for each in catalogue.resources] == ["pods"]


async def test_no_answer_at_all_is_an_error(cluster):
    cluster.fail(503, times=2)
    with pytest.raises(ApiError):
        await ask(cluster)
    await cluster.stop_listening()
    with pytest.raises(ConnectionLostError):
        await ask(cluster)


@pytest.mark.parametrize("text", ["<html>please log in</html>", "", "[]", "null", "{}"])
async def test_an_answer_that_is_no_discovery_is_one_of_our_errors(text):
    # A login page of a proxy, for instance, with status 200.
    async with answering(api=text, apis=text) as client:
        with pytest.raises(KexportError):
            await discover(client)


VERSIONS = {"kind": "APIVersions", "versions": ["v1"]}
APPS = {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [{"resource": "apples"}]}]}
PODS_LISTED = {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["list", "watch"]}
CORE = {"kind": "APIResourceList", "resources": [PODS_LISTED]}


@pytest.mark.parametrize(
    "apis",
    [
        {},
        {"kind": "APIGroupDiscoveryList", "items": [APPS]},
        {"kind": "APIGroupDiscoveryList"},
        {"kind": "APIGroupList"},
        {"kind": "APIGroupList", "groups": None},
        {"kind": "APIGroupList", "groups": [{"name": "apps"}]},
        {"kind": "Status", "status": "Success"},
    ],
)
async def test_half_an_answer_is_an_error_and_no_server_without_groups(apis):
    documents = {"api": VERSIONS, "api/v1": CORE, "apis": apis}
    async with answering(**documents) as client:
        with pytest.raises(KexportError):
            await discover(client)


async def test_where_two_replicas_answer_in_two_forms_the_one_that_all_know_is_asked_for():
    # While an HA control plane is upgraded, one of them may be too old for the aggregated form.
    async with FakeCluster(aggregated_discovery=False) as cluster:
        reply = {"kind": "APIGroupDiscoveryList", "items": [APPS]}
        cluster.script(Reply(body=json.dumps(reply).encode()), verb="get", path_contains="/apis")
        catalogue = await ask(cluster)
    assert catalogue.find("deployments.apps")
    assert catalogue.unavailable == ()


@pytest.mark.parametrize("resources", [{"resources": None}, {}, {"resources": [{"name": "apples"}]}])
async def test_a_group_with_an_answer_that_is_none_is_down_and_the_others_are_found(resources):
    group = {"name": "apps", "versions": [{"version": "v1"}]}
    documents = {
        "api": VERSIONS,
        "api/v1": CORE,
        "apis": {"kind": "APIGroupList", "groups": [group]},
        "apis/apps/v1": {"kind": "APIResourceList", **resources},
    }
    async with answering(**documents) as client:
        catalogue = await discover(client)
    assert catalogue.unavailable == ("apps/v1",)
    assert [each.full_name for each in catalogue.resources] == ["pods"]
