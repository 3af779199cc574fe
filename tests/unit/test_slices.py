"""What an EndpointSlice is believed, and what not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.kinds.slices import answering, behind, endpoint_slices, read_endpoints
from rayproxy.model import Endpoints, Key, Ref, Route, ServiceId, Target
from rayproxy.objects import UnreadableError
from tests.support.kuberay import endpoint_slice

SERVICE = {"metadata": {"name": "chat-serve-svc", "namespace": "ml", "uid": "u-1", "labels": {"ray.io/serve": "c"}}}
IT = ServiceId(Key("ml", "chat-serve-svc"), "u-1")


def changed(**fields: Any) -> dict[str, Any]:
    """Return a slice of two ready endpoints with other metadata."""
    made = copy.deepcopy(endpoint_slice(SERVICE, True, True))
    made["metadata"] |= fields
    return made


def of(*endpoints: Any, family: str = "IPv4") -> Endpoints:
    return read_endpoints(endpoint_slice(SERVICE, family=family) | {"endpoints": list(endpoints)})


def at(*addresses: Any, **conditions: Any) -> dict[str, Any]:
    return {"addresses": list(addresses), "conditions": conditions}


def test_the_ready_ones_are_counted_and_all_of_them():
    assert read_endpoints(endpoint_slice(SERVICE, True, False, True)) == Endpoints(IT, "IPv4", 2, 3)
    assert read_endpoints(endpoint_slice(SERVICE, True, family="IPv6")) == Endpoints(IT, "IPv6", 1, 1)


def test_a_slice_without_endpoints_says_that_there_are_none():
    assert of() == Endpoints(IT, "IPv4", 0, 0)
    assert read_endpoints(endpoint_slice(SERVICE) | {"endpoints": None}) == Endpoints(IT, "IPv4", 0, 0)


def test_what_is_not_said_of_an_endpoint_is_ready_as_the_api_says():
    unsaid, unknown, ending = {"addresses": ["10.0.0.1"]}, at("10.0.0.2", ready=None), at("10.0.0.3", ready=False)
    counted = of(unsaid, unknown, ending)
    assert (counted.ready, counted.total) == (2, 3)


@pytest.mark.fault(100)
@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "fd00::1", "::ffff:10.0.0.1",
                "example.com", "", None, 7, "fe80::1%eth0"],
)  # fmt: skip
def test_an_address_that_no_pod_has_or_of_the_other_family_is_not_counted(address: object):
    assert of(at(address, ready=True), at("10.0.0.1", ready=True)) == Endpoints(IT, "IPv4", 1, 1)


@pytest.mark.fault(145)
@pytest.mark.parametrize("address", ["240.0.0.1", "240.10.0.5", "255.255.255.254"])
def test_a_pod_of_class_e_counts_as_any_other(address: str):
    assert of(at(address, ready=True), at("10.0.0.1", ready=False)) == Endpoints(IT, "IPv4", 1, 2)


@pytest.mark.fault(100)
@pytest.mark.parametrize("family", ["FQDN", "", "ipv4"])
def test_of_another_family_nothing_is_counted(family: str):
    assert of(at("10.0.0.1", ready=True), family=family).total == 0


@pytest.mark.fault(100)
@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": []},
        {"ownerReferences": None},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "chat-serve-svc", "uid": "u-1"}]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "other", "uid": "u-1",
                              "controller": True}]},
        {"ownerReferences": [{"apiVersion": "ray.io/v1", "kind": "Service", "name": "chat-serve-svc", "uid": "u-1",
                              "controller": True}]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "chat-serve-svc", "uid": "u-1",
                              "controller": True}]},
        {"labels": {}},
        {"labels": {"kubernetes.io/service-name": "other"}},
    ],
)  # fmt: skip
def test_a_slice_that_its_service_does_not_control_speaks_for_none(metadata: dict[str, Any]):
    assert read_endpoints(changed(**metadata)).service.uid == ""


@pytest.mark.fault(100)
def test_a_slice_speaks_for_a_service_of_its_own_namespace_alone():
    assert read_endpoints(changed(namespace="other")).service == ServiceId(Key("other", "chat-serve-svc"), "u-1")


def test_a_slice_without_a_name_is_none():
    with pytest.raises(UnreadableError):
        read_endpoints(changed(name=None))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(["addresses", "conditions"]), each),
    max_leaves=10,
)


@pytest.mark.fault(100)
@given(ANYTHING)
def test_whatever_stands_in_a_slice_no_more_are_ready_than_there_are(endpoints: object):
    counted = read_endpoints(endpoint_slice(SERVICE) | {"endpoints": endpoints})
    assert 0 <= counted.ready <= counted.total


def test_they_are_asked_for_by_the_labels_of_their_services():
    resource = endpoint_slices("ray.io/serve")
    assert (resource.path(None), resource.selector) == ("/apis/discovery.k8s.io/v1/endpointslices", "ray.io/serve")


def test_a_cluster_that_has_no_share_of_the_calls_is_not_counted():
    old, new = (ServiceId(Key("default", name), f"uid-{name}") for name in ("old", "new"))
    targets = Target("10.0.0.1", 8000), Target("10.0.0.2", 8000, weight=0)
    route = Route(Ref("rayservice", "default", "chat"), "u", "/apis/rayservice/chat", targets, services=(old, new))
    counts = {(old, "IPv4"): (0, 1), (new, "IPv4"): (3, 3)}
    assert behind(route, counts) == (0, 1)


OLD, NEW = (ServiceId(Key("default", name), f"uid-{name}") for name in ("old", "new"))


def upgraded(old: int, new: int) -> Route:
    """Return a route in an upgrade, by the shares of both clusters."""
    both = sorted([(Target("10.0.0.1", 8000, weight=old), OLD), (Target("10.0.0.2", 8000, weight=new), NEW)],
                  key=lambda each: -each[0].weight)  # fmt: skip
    targets, services = zip(*both, strict=True)
    return Route(Ref("rayservice", "default", "chat"), "u", "/apis/rayservice/chat", targets, services=services)


@pytest.mark.fault(125)
@pytest.mark.parametrize(
    ("old", "new", "served"),
    [
        (1, 0, (100, 0)),  # KubeRay's first share comes before a pod is ready
        (0, 1, (0, 100)),
        (1, 1, (80, 20)),
        (0, 0, (80, 20)),  # nobody is better
        (1, None, (80, 20)),  # not known: no slice has been seen
        (None, 0, (80, 20)),
    ],
)
def test_a_cluster_where_nobody_is_ready_has_no_share_while_the_other_has_some(
    old: int | None, new: int | None, served: tuple[int, int]
):
    known = {(service, "IPv4"): (ready, 1) for service, ready in ((OLD, old), (NEW, new)) if ready is not None}
    assert answering(upgraded(80, 20), known) == upgraded(*served)


@pytest.mark.fault(125)
def test_a_route_that_leads_to_one_service_is_as_it_was():
    target = (Target("10.0.0.1", 8000),)
    route = Route(Ref("rayservice", "default", "chat"), "u", "/apis/rayservice/chat", target, services=(OLD,))
    assert answering(route, {(OLD, "IPv4"): (0, 1)}) == route
