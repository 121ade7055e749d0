"""Which sink gets which event."""

import pytest

from kexport.config import SinkSettings
from kexport.encoder import dropped_events
from kexport.errors import ConfigError
from kexport.event import GAP, SYNCED, Event
from kexport.route import counters, gates, share
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


def labelled(number=1, **labels):
    body = {"metadata": {"name": "x", "labels": labels}, "spec": {"n": number}}
    return make_event(number, data={"object": body})


def test_a_route_of_origins_lets_only_those_pass():
    route = RouteConfig(sinks=("audit",), origins=("watch", "recovered"))
    assert wants(route, make_event(origin="recovered"))
    assert not wants(route, make_event(origin="snapshot"))
    assert wants(route, make_event(type=GAP, origin="resync"))


def test_a_route_of_labels_lets_only_what_it_selects_pass():
    route = RouteConfig(sinks=("audit",), labels="team in (shop, search), !canary")
    assert wants(route, labelled(team="shop"))
    assert not wants(route, labelled(team="shop", canary="1"))
    assert not wants(route, labelled())
    assert wants(route, make_event(type=GAP))


def test_a_route_with_a_condition_lets_only_what_meets_it_pass():
    route = RouteConfig(sinks=("audit",), where="object.spec.n > 3 && event.change == 'modified'")
    assert wants(route, labelled(4))
    assert not wants(route, labelled(3))
    assert wants(route, make_event(type=SYNCED))


def test_data_is_read_only_by_those_routes_that_ask_for_it_and_only_at_last():
    head = make_event().line.partition(b'"data":')[0]
    unreadable = Event(head + b'"data":unreadable}', attributes=make_event().attributes)
    plain = RouteConfig(sinks=("audit",), changes=("modified",), origins=("watch",), namespaces=("shop",))
    assert wants(plain, unreadable)
    (gate,) = gated(RouteConfig(sinks=("audit",), namespaces=("x",), labels="a", where="object.a == 1"))
    assert gate.refusal(unreadable) == "namespaces"
    (gate,) = gated(RouteConfig(sinks=("audit",), labels="a"))
    assert gate.refusal(unreadable) == "undecided"


def gated(*configs, before=None):
    return gates(configs, {"audit": sink("audit")}, resolve, before)["audit"].gates


def test_a_sample_is_the_same_at_every_repeat_and_about_the_share():
    (gate,) = gated(RouteConfig(sinks=("audit",), sample=0.1))
    events = [make_event(number) for number in range(5000)]
    chosen = [event.id for event in events if not gate.refusal(event)]
    assert 400 < len(chosen) < 600
    again = gated(RouteConfig(sinks=("audit",), sample=0.1))[0]
    assert [event.id for event in reversed(events) if not again.refusal(Event(event.line))] == chosen[::-1]
    larger = gated(RouteConfig(sinks=("audit",), sample=0.2))[0]
    assert set(chosen) < {event.id for event in events if not larger.refusal(event)}


def test_the_hash_of_a_sample_never_changes():
    """Another hash would decide otherwise after an upgrade what an earlier one decided."""
    assert share("00000000-0000-4000-8000-000000000001/1") == pytest.approx(0.7304710875118197, abs=1e-12)


def test_a_rate_limit_goes_by_the_time_of_observation_and_passes_stream_events():
    (gate,) = gated(RouteConfig(sinks=("audit",), max_events_per_second=2, burst_events=3))
    times = [f"2026-01-01T00:00:0{second}.000000Z" for second in (0, 0, 0, 0, 1, 1, 1)]
    said = [gate.refusal(make_event(number, time=time)) for number, time in enumerate(times)]
    assert said == ["", "", "", "max_events_per_second", "", "", "max_events_per_second"]
    assert gate.refusal(make_event(type=GAP, time="2026-01-01T00:00:00.700000Z")) == ""


def counts(gate):
    return gate.stats.undecided, gate.stats.sampled_out, gate.stats.rate_limited


def test_what_a_route_keeps_back_is_counted():
    found = gates(
        [
            RouteConfig(sinks=("audit",), where="object.spec.missing == 1"),
            RouteConfig(sinks=("audit", "other"), labels="team", sample=0.5, max_events_per_second=1),
        ],
        {name: sink(name) for name in ("audit", "other")},
        resolve,
    )
    for number in range(1000):
        found["audit"].wants(labelled(number, team="shop"))
        found["other"].wants(labelled(number))
    first, second = found["audit"].gates
    undecided, sampled_out, limited = counts(second)
    assert 400 < sampled_out < 600
    assert limited == 1000 - sampled_out - 1
    assert undecided == 0
    assert counts(first) == (999, None, None), "what another route gave the sink is not lost"
    assert counts(found["other"].gates[0]) == (0, 0, 0), "what other conditions refuse is not held back"
    assert set(counters(found)) == {(0, "audit"), (1, "audit"), (1, "other")}


def test_counters_go_on_after_the_configuration_is_read_again():
    config = RouteConfig(sinks=("audit",), where="object.spec.missing == 1")
    found = gates([config], {"audit": sink("audit")}, resolve)
    found["audit"].wants(labelled())
    again = gates([config], {"audit": sink("audit")}, resolve, counters(found))
    again["audit"].wants(labelled())
    assert counts(again["audit"].gates[0]) == (2, None, None)


def test_an_object_without_an_answer_is_said_once_with_its_name(caplog):
    (gate,) = gated(RouteConfig(sinks=("audit",), where="object.spec.missing == 1"))
    assert [gate.refusal(labelled(number)) for number in (1, 2, 3)] == ["undecided"] * 3
    (record,) = caplog.records
    assert record.kexport_fields["object"] == "shop/config-1"
    assert record.kexport_fields["route"] == "routes[0]"
    assert str(record.kexport_fields["error"]) == 'Key not found in map : "missing"'


def test_routes_that_ask_the_same_share_one_condition():
    first, second = gated(
        RouteConfig(sinks=("audit",), where="object.spec.n > 3"),
        RouteConfig(sinks=("audit",), where="object.spec.n > 3", changes=("deleted",)),
    )
    assert first.route.where is second.route.where
