"""Proxies of several classes that see the same Gateways: each speaks for its own, and what they say comes to rest."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from rayproxy.gateway.objects import CONTROLLER, read_gateway, read_httproute
from rayproxy.gateway.proofs import Proofs
from rayproxy.gateway.source import Known, Scope
from rayproxy.gateway.speaker import Speaker
from rayproxy.model import Key, Ref, Route, ServiceId, Target
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome

Obj = dict[str, Any]
OWNER = {"apiVersion": "ray.io/v1", "kind": "RayService", "name": "chat", "uid": "u1", "controller": True}
LISTENER = {"name": "http", "port": 80, "protocol": "HTTP"}
MATCHES = [{"path": {"type": "PathPrefix", "value": "/"}}]
BACKENDS = [{"name": "chat-a-serve-svc", "port": 8000, "weight": 100}]
ROUTE = Route(Ref("rayservice", "ml", "chat"), "u1", "/apis/rayservice/chat", (Target("10.0.0.1", 8000),), "",
              (ServiceId(Key("ml", "chat-a-serve-svc"), "s"),))  # fmt: skip
ALL_WELL = ["Accepted", "Programmed"], ["Accepted", "ResolvedRefs"]


def metadata(name: str) -> Obj:
    return {"name": name, "namespace": "ml", "generation": 1, "ownerReferences": [OWNER]}


@dataclass
class Cluster:
    """Gateways and HTTPRoutes of one namespace, with as much of server-side apply as their status needs."""

    gateways: dict[str, Obj] = field(default_factory=dict)
    httproutes: dict[str, Obj] = field(default_factory=dict)
    words: dict[str, dict[str, list[Obj]]] = field(default_factory=dict)  # {Gateway: {manager: its conditions}}
    writes: int = 0

    def gateway(self, name: str, class_name: str) -> None:
        spec = {"gatewayClassName": class_name, "listeners": [LISTENER]}
        self.gateways.setdefault(name, {"metadata": metadata(name)})["spec"] = spec

    def httproute(self, name: str, *gateways: str, namespace: str = "ml") -> None:
        parents = [{"name": each, "namespace": namespace} for each in gateways]
        spec = {"parentRefs": parents, "rules": [{"matches": MATCHES, "backendRefs": BACKENDS}]}
        self.httproutes[name] = {"metadata": metadata(name), "spec": spec, "status": {}}

    def send(self, _method: str, path: str, body: Obj, query: dict[str, str], _content_type: str) -> None:
        self.writes += 1
        plural, name, _ = path.split("/")[-3:]
        if plural == "httproutes":
            self.httproutes[name]["status"] = body["status"]
            return
        said = body.get("status", {}).get("conditions", [])
        types = {each["type"] for each in said}
        words = self.words.setdefault(name, {})
        for manager, before in words.items():
            words[manager] = [each for each in before if each["type"] not in types]
        words[query["fieldManager"]] = said
        gateway = self.gateways[name]
        gateway["status"] = {"conditions": [each for found in words.values() for each in found]}
        gateway["metadata"]["managedFields"] = [
            {"manager": manager, "operation": "Apply", "subresource": "status"} for manager in words if words[manager]
        ]

    def known(self) -> Known:
        gateways = [read_gateway(each) for each in self.gateways.values()]
        httproutes = tuple(map(read_httproute, self.httproutes.values()))
        return Known((), {each.key: each for each in gateways}, httproutes, frozenset({"me"}), {})

    def said(self, gateway: str, httproute: str) -> tuple[list[str], list[str]]:
        """Return what is said to be True of the two."""
        parents = self.httproutes[httproute]["status"].get("parents", [])
        at = [each for each in parents if each["parentRef"]["name"] == gateway]
        found = self.gateways.get(gateway, {}).get("status", {}).get("conditions", [])
        return _true(found), _true([each for parent in at for each in parent["conditions"]])


def _true(conditions: list[Obj]) -> list[str]:
    return sorted(each["type"] for each in conditions if each["status"] == "True")


class Proxies:
    """A proxy for each class."""

    def __init__(self, cluster: Cluster, *classes: str) -> None:
        self._cluster = cluster
        self._speakers = [self._of(each) for each in classes]

    def rest(self) -> None:
        """Let each take turns, until nobody has anything to write."""
        for _ in range(10):
            before = self._cluster.writes
            for speaker in self._speakers:
                speaker._turn(1000.0)
            if self._cluster.writes == before:
                return
        pytest.fail("they write without end")

    def _of(self, class_name: str) -> Speaker:
        proofs = Proofs(lambda: None)
        proofs.done(Outcome((ROUTE,), (), "r", Changes(), reloaded=True), 0.0, None)
        cluster = cast("Any", self._cluster)
        return Speaker(cluster, Scope(class_name, (), "me", None), proofs, cluster, threading.Event())


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    for name in ("a", "b"):
        made.gateway(name, name)
        made.httproute(name, name)
    return made


pytestmark = pytest.mark.fault(146)


@pytest.mark.parametrize("classes", [("a", "b"), ("b", "a"), ("c", "a", "b")])
def test_each_speaks_for_its_own_class_and_leaves_the_others_words(cluster: Cluster, classes: tuple[str, ...]):
    Proxies(cluster, *classes).rest()
    assert [cluster.said(name, name) for name in ("a", "b")] == [ALL_WELL, ALL_WELL]


@pytest.mark.parametrize("namespace", ["ml", "elsewhere"])
def test_an_httproute_at_gateways_of_two_classes_has_the_words_of_both(cluster: Cluster, namespace: str):
    cluster.httproute("both", "a", "b", namespace=namespace)
    Proxies(cluster, "a", "b").rest()
    parents = cluster.httproutes["both"]["status"].get("parents", [])
    assert [each["parentRef"]["name"] for each in parents] == (["a", "b"] if namespace == "ml" else [])


@pytest.mark.parametrize("classes", [("a", "b"), ("b", "a"), ("b",), ("c",)])
@pytest.mark.parametrize("becomes", ["b", "another"])
def test_of_a_gateway_that_gets_another_class_the_old_words_go(
    cluster: Cluster, classes: tuple[str, ...], becomes: str
):
    Proxies(cluster, "a", "b").rest()
    cluster.gateway("a", becomes)
    Proxies(cluster, *classes).rest()
    speaks = becomes in classes
    assert cluster.said("a", "a") == (ALL_WELL if speaks else ([], []))
    assert cluster.said("b", "b") == ALL_WELL
    assert set(filter(cluster.words["a"].get, cluster.words["a"])) == ({f"rayproxy-{becomes}"} if speaks else set())


@pytest.mark.parametrize("classes", [("a", "b"), ("b",)])
def test_of_a_gateway_that_is_gone_nothing_is_said(cluster: Cluster, classes: tuple[str, ...]):
    Proxies(cluster, "a", "b").rest()
    del cluster.gateways["a"]
    Proxies(cluster, *classes).rest()
    assert cluster.said("a", "a") == ([], [])


def test_a_gateway_of_another_namespace_may_be_one_that_another_proxy_alone_sees(cluster: Cluster):
    cluster.httproute("far", "a", namespace="elsewhere")
    parent = cluster.httproutes["far"]["spec"]["parentRefs"][0]
    entry = {"parentRef": parent, "controllerName": CONTROLLER, "conditions": []}
    cluster.httproutes["far"]["status"] = {"parents": [entry]}
    Proxies(cluster, "a", "b").rest()
    assert cluster.httproutes["far"]["status"] == {"parents": [entry]}
