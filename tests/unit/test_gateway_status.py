"""What is written of Gateways: what is not said yet, with the time since when it is so."""

from __future__ import annotations

from typing import Any

import pytest

from rayproxy.gateway import status
from rayproxy.gateway.conditions import Condition
from rayproxy.gateway.objects import CONTROLLER, read_class, read_gateway, read_httproute

NOW, BEFORE = "2026-02-02T00:00:00Z", "2026-01-01T00:00:00Z"
YES = Condition("Accepted", status=True, reason="Accepted", message="well")
NO = Condition("Programmed", status=False, reason="Pending", message="waits")
META = {"name": "g", "namespace": "n", "generation": 3}
PARENT = {"name": "g"}


def written(condition: Condition, **fields: Any) -> dict[str, Any]:
    said = {"type": condition.type, "status": str(condition.status), "reason": condition.reason}
    more = {"message": condition.message, "observedGeneration": 3, "lastTransitionTime": BEFORE}
    return said | more | fields


def gateway(*conditions: dict[str, Any], manager: str = "rayproxy", operation: str = "Apply") -> dict[str, Any]:
    fields = [{"manager": manager, "operation": operation, "subresource": "status"}]
    return {"metadata": {**META, "managedFields": fields}, "status": {"conditions": list(conditions)}}


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
    found = read_gateway(gateway(written(YES), written(NO)))
    assert status.of_gateway(found, (YES, NO), NOW) is None
    route = read_httproute(httproute(parent(CONTROLLER, written(YES))))
    assert status.of_httproute(route, [(route.parents[0], (YES,))], NOW) is None
    assert (
        status.of_class(read_class({"metadata": META, "status": {"conditions": [written(YES)]}}), (YES,), NOW) is None
    )


@pytest.mark.fault(123)
@pytest.mark.parametrize(
    ("before", "since"),
    [({"observedGeneration": 2}, BEFORE), ({"message": "other"}, BEFORE), ({"status": "False"}, NOW)],
)
def test_the_time_of_a_condition_changes_with_its_status_alone(before: dict[str, Any], since: str):
    body = status.of_gateway(read_gateway(gateway(written(YES, **before), written(NO))), (YES, NO), NOW)
    assert body
    assert body["status"]["conditions"] == [written(YES, lastTransitionTime=since), written(NO)]


@pytest.mark.fault(123)
def test_what_was_said_of_a_gateway_is_taken_back_where_it_was_said_by_a_proxy():
    body = status.of_gateway(read_gateway(gateway(written(YES))), (), NOW)
    assert body
    assert "status" not in body
    assert status.of_gateway(read_gateway(gateway(written(YES), manager="istio")), (), NOW) is None


@pytest.mark.fault(123)
def test_others_words_of_an_httproute_go_back_with_ones_own_to_what_was_read():
    theirs = parent("example.net/other", written(YES))
    route = read_httproute(httproute(theirs, parent(CONTROLLER, written(YES))))
    changed = status.of_httproute(route, [(route.parents[0], (YES, NO))], NOW)
    taken = status.of_httproute(route, [], NOW)
    assert changed
    assert taken
    assert changed["metadata"]["resourceVersion"] == "7"
    assert changed["status"]["parents"][0] == taken["status"]["parents"][0] == theirs
    assert [len(changed["status"]["parents"]), len(taken["status"]["parents"])] == [2, 1]


@pytest.mark.fault(128)
def test_what_somebody_else_wrote_under_the_proxys_name_is_not_taken_back_for_ever():
    assert status.of_gateway(read_gateway(gateway(written(YES), operation="Update")), (), NOW) is None
