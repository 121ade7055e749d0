"""Which sink gets which event."""

import pytest

from kexport.config import SinkSettings
from kexport.encoder import dropped_events
from kexport.errors import ConfigError
from kexport.event import GAP, SYNCED
from kexport.route import gates
from kexport.sink import BatchConfig, Sink, SinkConfig, SinkType
from kexport.tables import RetryConfig, RouteConfig
from kexport.testing import make_event

SERVED = ["pods", "configmaps", "deployments.apps"]


class Nowhere(Sink):
    def __init__(self, config, context):
        pass

    async def write(self, events):
        pass


def sink(name, *, rejects_to=""):
    kind = SinkType("nowhere", SinkConfig, Nowhere)
    return SinkSettings(name, kind, SinkConfig(), BatchConfig(), RetryConfig(), 1.0, rejects_to)


def resolve(pattern):
    """As the catalogue does it, for the few names that the tests use."""
    return SERVED if pattern == "*" else [name for name in SERVED if name.startswith(pattern)]


def wanted(routes, *, sinks=("audit", "other"), **rejects_to):
    settings = {name: sink(name, rejects_to=rejects_to.get(name, "")) for name in sinks}
    return {name: each.wants for name, each in gates(routes, settings, resolve).items()}


def wants(route, event):
    return wanted([route])["audit"](event)


POD_ADDED = make_event(resource="pods", type="io.kexport.object.added", objnamespace="shop")


def test_without_routes_every_sink_gets_everything():
    found = wanted([])
    assert found["audit"](POD_ADDED)
    assert found["other"](make_event(type=GAP))


def test_without_routes_a_sink_for_rejects_gets_nothing_else():
    found = wanted([], sinks=("audit", "rejects"), audit="rejects")
    assert found["audit"](POD_ADDED)
    assert not found["rejects"](POD_ADDED)
    assert not found["rejects"](make_event(type=GAP))


def test_with_routes_a_sink_without_one_gets_nothing():
    found = wanted([RouteConfig(sinks=("audit",))])
    assert found["audit"](POD_ADDED)
    assert not found["other"](POD_ADDED)


def test_a_sink_for_rejects_can_have_a_route_of_its_own():
    found = wanted([RouteConfig(sinks=("rejects",))], sinks=("audit", "rejects"), audit="rejects")
    assert found["rejects"](POD_ADDED)


def test_a_route_without_conditions_lets_everything_pass():
    assert wants(RouteConfig(sinks=("audit",)), POD_ADDED)


def test_a_route_of_resources_lets_only_those_pass():
    route = RouteConfig(sinks=("audit",), resources=("pods", "dep"))
    assert wants(route, make_event(resource="pods"))
    assert wants(route, make_event(resource="deployments.apps"))
    assert not wants(route, make_event(resource="configmaps"))


def test_a_route_of_a_resource_that_stands_for_nothing_lets_nothing_pass():
    assert not wants(RouteConfig(sinks=("audit",), resources=("nothing",)), POD_ADDED)


def test_a_route_of_changes_lets_only_those_pass():
    route = RouteConfig(sinks=("audit",), changes=("modified", "deleted"))
    assert wants(route, make_event(type="io.kexport.object.deleted"))
    assert not wants(route, make_event(type="io.kexport.object.added"))
    assert not wants(route, make_event(type="io.kexport.object.left"))


def test_a_route_of_namespaces_takes_names_and_patterns():
    route = RouteConfig(sinks=("audit",), namespaces=("shop", "prod-*"))
    assert wants(route, make_event(objnamespace="shop"))
    assert wants(route, make_event(objnamespace="prod-eu"))
    assert not wants(route, make_event(objnamespace="staging"))


def test_a_route_of_namespaces_leaves_cluster_scoped_objects_out():
    assert not wants(RouteConfig(sinks=("audit",), namespaces=("shop",)), make_event(objnamespace=""))


def test_all_conditions_of_a_route_must_hold():
    route = RouteConfig(sinks=("audit",), resources=("pods",), changes=("added",), namespaces=("shop",))
    assert wants(route, POD_ADDED)
    assert not wants(route, make_event(resource="pods", type="io.kexport.object.added", objnamespace="x"))
    assert not wants(
        route, make_event(resource="pods", type="io.kexport.object.deleted", objnamespace="shop")
    )


def test_one_of_several_routes_is_enough():
    found = wanted(
        [
            RouteConfig(sinks=("audit",), resources=("pods",)),
            RouteConfig(sinks=("audit", "other"), changes=("deleted",)),
        ]
    )
    deleted = make_event(resource="configmaps", type="io.kexport.object.deleted")
    assert found["audit"](POD_ADDED)
    assert found["audit"](deleted)
    assert not found["other"](POD_ADDED)
    assert found["other"](deleted)


def test_events_about_a_stream_pass_whatever_changes_and_namespaces_are_wanted():
    route = RouteConfig(sinks=("audit",), resources=("pods",), changes=("deleted",), namespaces=("shop",))
    for kind in (GAP, SYNCED):
        assert wants(route, make_event(type=kind, resource="pods", objnamespace=""))


def test_events_about_a_stream_of_another_resource_do_not_pass():
    assert not wants(
        RouteConfig(sinks=("audit",), resources=("pods",)), make_event(type=GAP, resource="nodes")
    )


def test_a_gap_in_the_sinks_own_journal_passes_a_route_without_resources():
    assert wants(
        RouteConfig(sinks=("audit",), changes=("added",)),
        dropped_events("c", "audit", reason="journal-full", dropped=1, until=2),
    )


def test_an_unknown_resource_in_a_route_is_refused_with_its_place():
    def nothing_is_served(pattern):
        raise ConfigError(f"unknown resource {pattern!r}")

    routes = [RouteConfig(sinks=("audit",)), RouteConfig(sinks=("audit",), resources=("podz",))]
    with pytest.raises(ConfigError, match=r"^routes\[1\]\.resources: unknown resource 'podz'"):
        gates(routes, {"audit": sink("audit")}, nothing_is_served)
