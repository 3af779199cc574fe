"""Which port of a serve Service is routed to: every kind of Service that KubeRay's versions make."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.kinds.backend import Policy, RejectedError, Targets
from rayproxy.kinds.ports import PortError, rays_own, serve_port
from rayproxy.model import Port
from rayproxy.objects import read_service
from tests.support.manifests import rayservice, service

TARGETS = Targets(lambda of: serve_port(of.ports), "mend it")
HEAD = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080, "serve": 8000}


def tcp(name: str, number: int = 8000, app_protocol: str = "") -> Port:
    return Port(name, number, "TCP", app_protocol)


def reason_of(ports: list[Port]) -> tuple[str, str]:
    with pytest.raises(PortError) as caught:
        serve_port(ports)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize(
    ("ports", "number"),
    [
        ([tcp("serve", 1), tcp("serve-http", 2)], 1),
        ([tcp("serve-http", 1), tcp("serve-grpc", 2)], 1),  # KubeRay's own example
        ([tcp("serve", 1), tcp("serve-grpc", 2), tcp("serve-admin", 3)], 1),
        ([tcp("serve-http", 1), tcp("serve-admin", 2)], 1),
        ([tcp("serve-app", 1), tcp("serve-grpc", 2)], 1),
        ([tcp("serve-app", 1), tcp("serve-x", 2, "kubernetes.io/h2c"), tcp("metrics", 3)], 1),
        ([tcp("serve-app", 1), tcp("metrics", 2)], 1),
        ([tcp("http", 1)], 1),
        ([tcp("", 1)], 1),
        ([tcp("anything", 1), Port("serve", 2, "UDP")], 1),
        ([tcp("serve", 1, "http")], 1),
        ([tcp("serve", 1, "HTTP")], 1),
        ([tcp("serve", 1, "kubernetes.io/ws")], 1),
        ([tcp("serve", 1, "tcp")], 1),
        ([tcp("serve-grpc", 1, "http")], 1),  # the protocol that is set counts more than a name
        ([tcp("observer", 1)], 1),  # begins with no word of a protocol
    ],
)
def test_the_port_that_speaks_http_is_taken(ports, number):
    assert serve_port(ports) == serve_port(ports[::-1]) == number


@pytest.mark.parametrize(
    ("port", "says"),
    [
        (tcp("serve-grpc"), "serve-grpc=8000 says gRPC by its name"),
        (tcp("grpc"), "says gRPC by its name"),
        (tcp("grpc-serve"), "says gRPC by its name"),
        (tcp("serve-h2c"), "says HTTP/2 by its name"),
        (tcp("http2"), "says HTTP/2 by its name"),
        (tcp("https"), "says TLS by its name"),
        (tcp("serve-https"), "says TLS by its name"),
        (tcp("serve-tls", app_protocol="tcp"), "says TLS by its name"),
        (tcp("serve", app_protocol="https"), "serve=8000 says appProtocol: https"),
        (tcp("serve", app_protocol="HTTPS"), "says appProtocol: HTTPS"),
        (tcp("serve", app_protocol="kubernetes.io/h2c"), "says appProtocol: kubernetes.io/h2c"),
        (tcp("serve", app_protocol="kubernetes.io/wss"), "says appProtocol: kubernetes.io/wss"),
        (tcp("serve", app_protocol="grpc"), "says appProtocol: grpc"),
        (tcp("serve", app_protocol="tls"), "says appProtocol: tls"),
        (tcp("serve", app_protocol="HTTP2"), "says appProtocol: HTTP2"),
        (tcp("serve", app_protocol="redis"), "says appProtocol: redis"),
        (tcp("", app_protocol="example.com/own"), "unnamed=8000 says appProtocol: example.com/own"),
    ],
)
@pytest.mark.parametrize("others", [[], [tcp("serve-grpc", 9)], [Port("serve", 7, "SCTP")]])
def test_a_port_that_says_grpc_http2_or_tls_is_refused_by_that_word(port, says, others):
    if others and others[0].protocol == "TCP" and not port.name.startswith("serve"):
        return  # two ports, neither the only one: the table above and below
    reason, words = reason_of([port, *others])
    assert reason == "UnsupportedProtocol"
    assert says in words
    assert "Name the HTTP port 'serve' or 'serve-http'" in words


@pytest.mark.parametrize(
    "ports",
    [
        [],
        [tcp("a"), tcp("b")],
        [tcp("serve-a"), tcp("serve-b")],
        [tcp("serve-a"), tcp("serve-b"), tcp("serve-grpc")],
        [Port("serve", 8000, "UDP")],
        [tcp("serving"), tcp("serve2")],
    ],
)
def test_where_no_port_stands_out_none_is_guessed(ports):
    reason, words = reason_of(ports)
    assert reason == "NoServePort"
    assert "name one TCP port 'serve'" in words


def test_the_application_protocol_is_read_from_the_service():
    ports = [{"name": "serve", "port": 1, "appProtocol": "kubernetes.io/h2c"}, {"name": "x", "port": 2}]
    assert read_service(service(rayservice(), ports=ports)).ports == (
        Port("serve", 1, "TCP", "kubernetes.io/h2c"),
        Port("x", 2, "TCP", ""),
    )


def made_by_kuberay(release: tuple[int, int], head: dict[str, int], given: list[dict[str, Any]] | None) -> list[Port]:
    """Return the ports of the Service that a release makes, by common/service.go of 1.0.0, 1.5.2 and 1.6.2.

    `head` are the container ports of the head, `given` those of spec.serveService. No ports: it makes no Service.
    """
    newer = release >= (1, 6)
    found = {name: port for name, port in head.items() if name == "serve" or (newer and name.startswith("serve-"))}
    named = {port["name"]: port for port in given or ()}
    automatic = [{"name": name, "port": port} for name, port in found.items()]
    if newer:
        ports = [named.get(port["name"], port) for port in automatic] or list(given or ())
    else:
        ports = automatic or [
            {"name": "serve", "port": port["port"]} for name, port in named.items() if name == "serve"
        ]
    made = service(rayservice(), ports=ports)
    return list(read_service(made).ports)


NAMES = st.sampled_from(["serve", "serve-http", "serve-grpc", "serve-app", "serve-tls", "metrics", "http", "grpc"])
NUMBERS = st.integers(1, 65535).filter(lambda number: number not in (6379, 8265, 10001, 52365))  # not Ray's own
PROTOCOLS = st.sampled_from([None, "http", "https", "kubernetes.io/h2c", "kubernetes.io/ws", "grpc"])
GIVEN = st.none() | st.lists(
    st.builds(
        lambda name, port, protocol: {"name": name, "port": port} | ({"appProtocol": protocol} if protocol else {}),
        NAMES, NUMBERS, PROTOCOLS,
    ),
    max_size=4, unique_by=lambda port: port["name"],
)  # fmt: skip
HEADS = st.dictionaries(NAMES, NUMBERS, max_size=4).map(lambda ports: ports or HEAD)
RELEASES = st.sampled_from([(1, 0), (1, 3), (1, 5), (1, 6), (1, 7)])


def plain(port: Port) -> bool:
    """Tell whether HTTP/1.1 is spoken at a port of the names and protocols above."""
    if port.app_protocol:
        return port.app_protocol in ("http", "kubernetes.io/ws")
    return not port.name.endswith(("grpc", "tls"))


@given(RELEASES, HEADS, GIVEN, st.randoms())
def test_of_whatever_service_kuberay_makes_the_http_port_is_taken_or_the_reason_told(release, head, given, order):
    ports = made_by_kuberay(release, head, given)
    by_name = {port.name: port for port in ports}
    serving = [port for port in ports if port.name.startswith("serve-") and plain(port)]
    expected = by_name.get("serve") or by_name.get("serve-http") or (serving[0] if len(serving) == 1 else None)
    if not expected and len(ports) == 1:
        expected = ports[0]
    shuffled = order.sample(ports, len(ports))
    if expected and plain(expected):
        assert serve_port(shuffled) == expected.port
        return
    reason, words = reason_of(shuffled)
    if expected or any(port.name.startswith("serve-") for port in ports):
        assert reason == ("UnsupportedProtocol" if not serving or expected else "NoServePort"), words
    else:
        assert reason == "NoServePort"


def test_the_ports_of_the_documented_rayservice_are_found_with_every_release():
    """The same YAML gives port 8000 up to KubeRay 1.5 and port 80 from 1.6 on."""
    given = [{"name": "serve", "port": 80, "targetPort": 8000}]
    head = {"dashboard": 8265, "serve": 8000}
    found = {
        release: serve_port(made_by_kuberay(release, head, given)) for release in ((1, 0), (1, 5), (1, 6), (1, 7))
    }
    assert found == {(1, 0): 8000, (1, 5): 8000, (1, 6): 80, (1, 7): 80}


def test_a_thousand_ports_in_any_order_give_the_same_port():
    ports = [tcp(f"serve-{number}-grpc", number) for number in range(1, 1000)] + [tcp("serve-x", 4711)]
    random.Random(7).shuffle(ports)
    assert serve_port(ports) == 4711


@pytest.mark.fault(69)
@pytest.mark.fault(116)
@pytest.mark.parametrize(
    "port",
    [
        *(Port("serve", number, "TCP") for number in (8265, 10001, 52365, 6379)),
        *(Port("serve", 8000, "TCP", "", target) for target in (8265, "8265", "dashboard", "client", "gcs-server")),
        Port("", 8265, "TCP"),
        Port("dashboard", 80, "TCP", "", "dashboard"),
    ],
)
def test_no_port_of_rays_own_is_routed_whatever_it_is_called(port: Port):
    ray = rayservice()
    ports = [{"name": port.name, "port": port.port, "targetPort": port.target}]
    with pytest.raises(RejectedError, match="has no port for callers") as refused:
        TARGETS(read_service(service(ray, ports=ports)), Policy())
    assert refused.value.reason == "RaysOwnPort"


@pytest.mark.parametrize("target", [None, 8000, "serve", 0, "", 8001, True, 1.5])
def test_a_port_that_leads_to_any_other_is_routed_by_its_own_number(target: object):
    assert serve_port([Port("serve", 80, "TCP", "", target)]) == 80
    assert rays_own([Port("serve", 80, "TCP", "", target)], 80) == ""
