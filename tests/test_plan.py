"""Configuration and what is served -> streams, and what is cut from objects."""

import pytest

from kexport.change import Resource
from kexport.discovery import Catalogue
from kexport.errors import ConfigError
from kexport.plan import entry, shaping, streams
from kexport.tables import ResourceConfig, TransformConfig
from kexport.transform import Rule

RW = ("get", "list", "watch")
PODS = Resource(
    group="", version="v1", name="pods", kind="Pod", namespaced=True, verbs=RW, short_names=("po",)
)
NODES = Resource(group="", version="v1", name="nodes", kind="Node", namespaced=False, verbs=RW)
DEPLOYMENTS = Resource(
    group="apps", version="v1", name="deployments", kind="Deployment", namespaced=True, verbs=RW
)
EVENTS = Resource(group="", version="v1", name="events", kind="Event", namespaced=True, verbs=RW)
EVENTS_AGAIN = Resource(
    group="events.k8s.io", version="v1", name="events", kind="Event", namespaced=True, verbs=RW
)
BINDINGS = Resource(
    group="", version="v1", name="bindings", kind="Binding", namespaced=True, verbs=("create",)
)
CATALOGUE = Catalogue((PODS, NODES, EVENTS, BINDINGS, DEPLOYMENTS, EVENTS_AGAIN))


def plan(*configs):
    return streams(configs, CATALOGUE)


def keys(*configs):
    return [stream.key for stream in plan(*configs)]


def refuse(*configs):
    with pytest.raises(ConfigError) as caught:
        plan(*configs)
    return str(caught.value)


def test_a_resource_is_one_stream_for_all_namespaces():
    (stream,) = plan(ResourceConfig(resource="po"))
    assert (stream.resource, stream.namespace, stream.only_namespaces) == (PODS, None, ())


def test_named_namespaces_have_a_stream_each():
    (one, two) = plan(ResourceConfig(resource="pods", namespaces=("shop", "web")))
    assert (one.namespace, two.namespace) == ("shop", "web")
    assert one.path == "/api/v1/namespaces/shop/pods"


@pytest.mark.parametrize("pattern", ["prod-*", "pro?", "[ab]c"])
def test_a_pattern_makes_one_stream_that_picks_for_itself(pattern):
    (stream,) = plan(ResourceConfig(resource="pods", namespaces=("shop", pattern)))
    assert (stream.namespace, set(stream.only_namespaces)) == (None, {"shop", pattern})


def test_the_order_of_patterns_does_not_change_the_streams_name():
    one = keys(ResourceConfig(resource="pods", namespaces=("b-*", "a-*")))
    assert one == keys(ResourceConfig(resource="pods", namespaces=("a-*", "b-*")))


def test_selectors_and_the_way_to_begin_go_along():
    config = ResourceConfig(resource="pods", label_selector="a=b", field_selector="c=d", initial="silent")
    (stream,) = plan(config)
    assert (stream.label_selector, stream.field_selector, stream.initial) == ("a=b", "c=d", "silent")


def test_a_star_is_everything_that_can_be_watched_and_no_event_twice():
    assert keys(ResourceConfig(resource="*")) == ["pods/*", "nodes/*", "events/*", "deployments.apps/*"]


def test_a_pattern_of_a_group_is_that_group():
    assert keys(ResourceConfig(resource="*.apps")) == ["deployments.apps/*"]


def test_a_star_in_namespaces_leaves_out_what_has_none():
    assert keys(ResourceConfig(resource="*", namespaces=("shop",))) == [
        "pods/shop",
        "events/shop",
        "deployments.apps/shop",
    ]


def test_the_same_stream_twice_is_one_stream():
    assert keys(
        ResourceConfig(resource="pods"), ResourceConfig(resource="*.apps"), ResourceConfig(resource="po")
    ) == [
        "pods/*",
        "deployments.apps/*",
    ]


def test_one_entry_alone_can_be_planned():
    (stream,) = entry(ResourceConfig(resource="pods"), CATALOGUE, number=3)
    assert stream.resource == PODS
    with pytest.raises(ConfigError, match=r"^resources\[3\]\.resource: unknown resource"):
        entry(ResourceConfig(resource="podz"), CATALOGUE, number=3)


def test_an_unknown_resource_is_refused_with_its_place_and_a_suggestion():
    message = refuse(ResourceConfig(resource="pods"), ResourceConfig(resource="deploymnts.apps"))
    assert message.startswith("resources[1].resource: unknown resource 'deploymnts.apps', did you mean")


def test_a_resource_that_cannot_be_watched_is_refused_with_what_it_can():
    message = refuse(ResourceConfig(resource="bindings"))
    assert message.startswith("resources[0].resource: ")
    assert "cannot be watched: the server only offers create" in message


def test_namespaces_of_a_cluster_scoped_resource_are_refused():
    message = refuse(ResourceConfig(resource="nodes", namespaces=("shop",)))
    assert message == "resources[0].namespaces: nodes is not namespaced; leave namespaces out"


def test_the_same_objects_under_two_names_are_refused():
    message = refuse(ResourceConfig(resource="events"), ResourceConfig(resource="events.events.k8s.io"))
    assert "events.events.k8s.io and events are the same objects" in message
    assert "keep one of them" in message


@pytest.mark.parametrize("name", ["deployments", "deployments.apps", "*.apps", "*", "Deployment"])
def test_a_transform_means_a_resource_as_resources_do(name):
    transform = TransformConfig(resources=(name,), drop=("status",))
    assert shaping([transform], DEPLOYMENTS, CATALOGUE) == [Rule("drop", (("status",),))]


@pytest.mark.parametrize("name", ["pods", "*.batch", "nodes"])
def test_a_transform_of_other_resources_drops_nothing(name):
    transform = TransformConfig(resources=(name,), drop=("status",))
    assert shaping([transform], DEPLOYMENTS, CATALOGUE) == []


def test_the_rules_of_all_matching_transforms_are_taken_in_order():
    transforms = [
        TransformConfig(resources=("*",), drop=("metadata.annotations['a.b/c']", "status")),
        TransformConfig(resources=("pods",), drop=("spec.x",)),
        TransformConfig(resources=("nodes",), drop=("spec.y",)),
    ]
    assert shaping(transforms, PODS, CATALOGUE) == [
        Rule("drop", (("metadata", "annotations", "a.b/c"), ("status",))),
        Rule("drop", (("spec", "x"),)),
    ]


def test_a_malformed_path_is_refused_with_its_place():
    transforms = [TransformConfig(resources=("*",)), TransformConfig(resources=("*",), drop=("a..b",))]
    with pytest.raises(ConfigError, match=r"transforms\[1\]\.drop: field path 'a\.\.b' is wrong from"):
        shaping(transforms, PODS, CATALOGUE)


def test_a_transform_of_an_unknown_resource_is_refused_with_its_place():
    with pytest.raises(ConfigError, match=r"^transforms\[0\]\.resources: unknown resource 'podz'"):
        shaping([TransformConfig(resources=("podz",))], PODS, CATALOGUE)
