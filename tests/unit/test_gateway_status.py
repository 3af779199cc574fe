"""What is written of Gateways: what is not said yet, with the time since when it is so."""

from __future__ import annotations

from typing import Any

import pytest

from rayproxy.gateway import status
from rayproxy.gateway.conditions import Condition, kept, outdated
from rayproxy.gateway.objects import CONTROLLER, Gateway, manager, read_class, read_gateway, read_httproute

NOW, BEFORE = "2026-02-02T00:00:00Z", "2026-01-01T00:00:00Z"
YES = Condition("Accepted", status=True, reason="Accepted", message="well")
NO = Condition("Programmed", status=False, reason="Pending", message="waits")
META = {"name": "g", "namespace": "n", "generation": 3}
CLASS = "upgrades"
PARENT = {"name": "g"}


def written(condition: Condition, **fields: Any) -> dict[str, Any]:
    said = {"type": condition.type, "status": str(condition.status), "reason": condition.reason}
    more = {"message": condition.message, "observedGeneration": 3, "lastTransitionTime": BEFORE}
    return said | more | fields


def gateway(*conditions: dict[str, Any], by: str = manager(CLASS), operation: str = "Apply") -> Gateway:
    fields = [{"manager": by, "operation": operation, "subresource": "status"}]
    metadata = {**META, "managedFields": fields}
    return read_gateway(
        {"metadata": metadata, "spec": {"gatewayClassName": CLASS}, "status": {"conditions": list(conditions)}}
    )


def httproute(*parents: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {**META, "resourceVersion": "7"},
        "spec": {"parentRefs": [PARENT]},
        "status": {"parents": list(parents)},
    }


def parent(controller: str, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"parentRef": PARENT, "controllerName": controller, "conditions": list(conditions)}


@pytest.mark.fault(123)
def test_what_is_said_is_not_written_again():
    assert status.of_gateway(gateway(written(YES), written(NO)), (YES, NO), NOW) is None
    route = read_httproute(httproute(parent(CONTROLLER, written(YES))))
    assert status.of_httproute(route, [(route.parents[0], (YES,))], [], NOW) is None
    assert (
        status.of_class(read_class({"metadata": META, "status": {"conditions": [written(YES)]}}), (YES,), NOW) is None
    )


@pytest.mark.fault(123)
@pytest.mark.parametrize(
    ("before", "since"),
    [({"observedGeneration": 2}, BEFORE), ({"message": "other"}, BEFORE), ({"status": "False"}, NOW)],
)
def test_the_time_of_a_condition_changes_with_its_status_alone(before: dict[str, Any], since: str):
    body = status.of_gateway(gateway(written(YES, **before), written(NO)), (YES, NO), NOW)
    assert body
    assert body["status"]["conditions"] == [written(YES, lastTransitionTime=since), written(NO)]


@pytest.mark.fault(123)
def test_what_was_said_of_a_gateway_is_taken_back_where_it_was_said_by_a_proxy():
    assert outdated(gateway(written(YES)), {}, CLASS) == [manager(CLASS)]
    assert "status" not in status.nothing(gateway(written(YES)))
    assert outdated(gateway(written(YES), by="istio"), {}, CLASS) == []


@pytest.mark.fault(123)
def test_others_words_of_an_httproute_go_back_with_ones_own_to_what_was_read():
    theirs = parent("example.net/other", written(YES))
    route = read_httproute(httproute(theirs, parent(CONTROLLER, written(YES))))
    others = kept(route, {}, CLASS)
    changed = status.of_httproute(route, [(route.parents[0], (YES, NO))], others, NOW)
    taken = status.of_httproute(route, [], others, NOW)
    assert changed
    assert taken
    assert changed["metadata"]["resourceVersion"] == "7"
    assert changed["status"]["parents"][0] == taken["status"]["parents"][0] == theirs
    assert [len(changed["status"]["parents"]), len(taken["status"]["parents"])] == [2, 1]


@pytest.mark.fault(128)
def test_what_somebody_else_wrote_under_the_proxys_name_is_not_taken_back_for_ever():
    assert outdated(gateway(written(YES), operation="Update"), {}, CLASS) == []


@pytest.mark.fault(146)
def test_the_same_words_of_somebody_else_are_said_once_more_as_ones_own():
    assert status.of_gateway(gateway(written(YES), by=manager("another")), (YES,), NOW)


@pytest.mark.fault(146)
def test_the_name_of_a_long_class_makes_a_manager_that_the_api_takes():
    assert (len(manager("a" * 253)), manager("a.b")) == (128, "rayproxy-a.b")
