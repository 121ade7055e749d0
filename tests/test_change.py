"""The nouns of the Kubernetes side: how versions compare, and how resources and streams are named."""

from hypothesis import given
from hypothesis import strategies as st

from kexport.change import Metadata, Resource, Stream, is_version, newer

versions = st.integers(min_value=1, max_value=10**40).map(str)
malformed = st.sampled_from(["", "0", "007", "-1", "+1", "1.0", "1e3", " 1", "1 ", "abc", "0x1f", "٣", "²"])

PODS = Resource(group="", version="v1", name="pods", kind="Pod", namespaced=True, verbs=("list", "watch"))
DEPLOYMENTS = Resource(group="apps", version="v1", name="deployments", kind="Deployment", namespaced=True)


@given(versions)
def test_a_positive_decimal_of_any_length_is_a_version(text):
    assert is_version(text)


@given(malformed)
def test_anything_else_is_no_version(text):
    assert not is_version(text)


@given(versions, versions)
def test_versions_compare_as_the_numbers_they_look_like(left, right):
    assert newer(left, right) == (int(left) > int(right))


@given(malformed, versions)
def test_a_malformed_version_is_neither_newer_nor_older(text, version):
    assert not newer(text, version)
    assert not newer(version, text)


def test_no_version_is_newer_than_itself():
    assert not newer("17", "17")


def test_a_longer_version_is_newer_though_it_sorts_before_as_text():
    assert newer("1000", "999")


def test_the_core_group_has_a_path_of_its_own():
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("shop") == "/api/v1/namespaces/shop/pods"


def test_a_named_group_is_part_of_the_path():
    assert DEPLOYMENTS.path() == "/apis/apps/v1/deployments"
    assert DEPLOYMENTS.path("shop") == "/apis/apps/v1/namespaces/shop/deployments"


def test_a_resource_is_called_as_kubectl_calls_it():
    assert (PODS.full_name, PODS.api_version) == ("pods", "v1")
    assert (DEPLOYMENTS.full_name, DEPLOYMENTS.api_version) == ("deployments.apps", "apps/v1")


def test_only_what_can_be_listed_and_watched_is_watchable():
    assert PODS.watchable
    assert not DEPLOYMENTS.watchable


def test_a_stream_of_everything_is_named_after_its_resource():
    assert Stream(resource=DEPLOYMENTS).key == "deployments.apps/*"


def test_a_streams_name_is_free_of_the_served_version():
    newer_version = Resource(group="apps", version="v2", name="deployments", kind="D", namespaced=True)
    assert Stream(resource=newer_version).key == Stream(resource=DEPLOYMENTS).key


def test_whatever_narrows_a_stream_is_in_its_name():
    keys = {
        Stream(resource=PODS).key,
        Stream(resource=PODS, namespace="shop").key,
        Stream(resource=PODS, only_namespaces=("prod-*",)).key,
        Stream(resource=PODS, label_selector="a=b").key,
        Stream(resource=PODS, field_selector="a=b").key,
        Stream(resource=PODS, label_selector="a=b", field_selector="a=b").key,
    }
    assert len(keys) == 6


def test_a_stream_without_patterns_wants_every_namespace():
    assert Stream(resource=PODS).wants("anything")
    assert Stream(resource=PODS).wants("")


def test_a_stream_with_patterns_wants_what_one_of_them_matches():
    stream = Stream(resource=PODS, only_namespaces=("prod-*", "shop"))
    assert stream.wants("prod-eu")
    assert stream.wants("shop")
    assert not stream.wants("shop-2")
    assert not stream.wants("staging")


def test_namespace_patterns_know_upper_from_lower_case():
    assert not Stream(resource=PODS, only_namespaces=("Prod-*",)).wants("prod-eu")


def test_a_selector_makes_a_stream_selective_and_a_namespace_does_not():
    assert Stream(resource=PODS, label_selector="a=b").selective
    assert Stream(resource=PODS, field_selector="a=b").selective
    assert not Stream(resource=PODS, namespace="shop", only_namespaces=("prod-*",)).selective


def test_only_given_selectors_are_sent():
    assert Stream(resource=PODS).selectors == {}
    assert Stream(resource=PODS, label_selector="a=b").selectors == {"labelSelector": "a=b"}


def test_an_object_is_keyed_by_namespace_and_name():
    assert Metadata(name="web", namespace="shop").key == "shop/web"
    assert Metadata(name="node-1").key == "node-1"
