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
from rayproxy.kube.api import ApiError
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
REQUIRED = {"type", "status", "reason", "message"}
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
    heard: list[tuple[list[str], list[str]]] = field(default_factory=list)  # what is said of `a` after each write

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
        else:
            self.apply(name, query["fieldManager"], body.get("status", {}).get("conditions", []))
        self.heard.append(self.said("a", "a"))

    def apply(self, name: str, manager: str, said: list[Obj]) -> None:
        """Apply conditions: each manager has the fields that it set last, or that others set to the same."""
        words = self.words.get(name, {})
        now = {each["type"]: each for each in said}
        words = {by: [_agreed(each, now.get(each["type"], {})) for each in before] for by, before in words.items()}
        words = {by: each for by, each in words.items() if by != manager} | ({manager: said} if said else {})
        found: dict[str, Obj] = {}
        for each in (each for conditions in words.values() for each in conditions):
            found[each["type"]] = found.get(each["type"], {}) | each
        if not all(each.keys() >= REQUIRED for each in found.values()):
            raise ApiError("a condition lacks a field", 422)
        self.words[name] = words
        self.gateways[name]["status"] = {"conditions": list(found.values())}
        self.gateways[name]["metadata"]["managedFields"] = [
            {"manager": by, "operation": "Apply", "subresource": "status"} for by in words
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


def _agreed(before: Obj, now: Obj) -> Obj:
    """Return the fields of a condition that stay a manager's: those that another did not set to something else."""
    return {name: value for name, value in before.items() if now.get(name, value) == value}


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
    assert set(cluster.words["a"]) == ({f"rayproxy-{becomes}"} if speaks else set())


@pytest.fixture
def former(cluster: Cluster) -> Cluster:
    """Return a cluster where a proxy said all under the name that each had before it had the class in it."""
    Proxies(cluster, "a").rest()
    cluster.apply("a", "rayproxy", cluster.words["a"]["rayproxy-a"])
    cluster.apply("a", "rayproxy-a", [])
    cluster.heard.clear()
    return cluster


def test_words_under_the_former_name_stand_until_they_are_said_under_the_new_one(former: Cluster):
    Proxies(former, "a").rest()
    assert former.heard
    assert all(each == ALL_WELL for each in former.heard)
    assert set(former.words["a"]) == {"rayproxy-a"}


@pytest.mark.parametrize("last", ["rayproxy", "rayproxy-a"])
@pytest.mark.parametrize(("becomes", "speaks"), [("a", True), ("another", False)])
def test_words_under_both_names_come_to_rest_whichever_spoke_last(
    former: Cluster, last: str, becomes: str, speaks: bool
):
    words = former.words["a"]["rayproxy"]
    former.apply("a", "rayproxy-a", words)
    former.apply("a", last, [each | {"message": "the last word"} for each in words])
    former.gateway("a", becomes)
    Proxies(former, "a").rest()
    assert former.said("a", "a") == (ALL_WELL if speaks else ([], []))
    assert set(former.words["a"]) == ({"rayproxy-a"} if speaks else set())


@pytest.mark.parametrize("classes", [("a",), ("b",)])
def test_words_under_the_former_name_go_where_the_gateway_gets_another_class(
    former: Cluster, classes: tuple[str, ...]
):
    former.gateway("a", "another")
    Proxies(former, *classes).rest()
    assert former.said("a", "a") == ([], [])
    assert former.words["a"] == {}


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
