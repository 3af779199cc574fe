"""What the registry of kinds says is what everything else goes by."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest

from rayproxy.kinds import KINDS, endpoints, resources
from rayproxy.kinds.backend import Policy, Targets
from rayproxy.kinds.rayservice import SERVICES
from rayproxy.model import Resource
from rayproxy.nginx.render import RouteFiles
from rayproxy.nginx.templates import load_location
from tests.support import deploy
from tests.support.manifests import rayservice, route, service
from tests.support.routes import CONF

PREFIX = load_location("prefix")


@pytest.mark.parametrize("overlay", ["deploy", "deploy/overlays/one-namespace"])
def test_the_role_of_the_daemon_allows_what_the_kinds_watch_and_no_more(overlay: str):
    rendered = deploy.render(overlay)
    role = deploy.one(rendered, "ClusterRole" if overlay == "deploy" else "Role")
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    watched: list[Resource[Any]] = [*resources(), *endpoints()]
    needed = {(each.group, each.plural, verb) for each in watched for verb in ("list", "watch")}
    assert allowed == needed | {("", "events", "create")}
    (names,) = deploy.one(rendered, "Role", "rayproxy-names")["rules"]
    assert (names["resources"], names["resourceNames"]) == (["configmaps"], ["rayproxy-names"])
    assert names["verbs"] == ["get", "patch"]


def test_what_callers_are_told_is_plain_text_with_room_for_a_reason():
    for told in (words for kind in KINDS.values() for words in kind.told.values()):
        assert not set("'\"$;{}\\") & set(told.replace("{}", ""))
        assert told.count("{}") <= 1


def test_no_kinds_files_are_taken_for_anothers():
    prefixes = [f"{kind.file_prefix}-" for kind in KINDS.values()]
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and a.startswith(b)]


def test_a_route_that_is_as_it_was_is_not_rendered_again_and_one_that_went_is_forgotten():
    files = RouteFiles()
    first = files([route("a"), route("b")], PREFIX, CONF)
    second = files([route("a"), route("c")], PREFIX, CONF)
    assert second["ray-a.conf"] is first["ray-a.conf"]
    for number in range(50):
        files([route("a", port=1 + number)], PREFIX, CONF)
    assert len(files._last) == 1


def test_the_address_of_a_service_is_worked_out_once_and_forgotten_with_it():
    asked = []

    def port(of) -> int:
        asked.append(of)
        return 8000

    targets = Targets(port, "mend it")
    lasting = SERVICES.read(service(rayservice()))
    for number in range(50):
        targets(lasting, Policy())
        targets(replace(lasting, cluster_ip=f"10.0.0.{number}"), Policy())
    assert asked.count(lasting) == 1
    asked.clear()
    gc.collect()
    assert len(targets._known) == 1
