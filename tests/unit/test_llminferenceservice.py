"""LLMInferenceServices beside what the golden cases show."""

from __future__ import annotations

from typing import Any

import pytest

from rayproxy.kinds.backend import Policy
from rayproxy.kinds.inferenceservice import INFERENCESERVICES, read_inferenceservice
from rayproxy.kinds.llminferenceservice import LLMINFERENCESERVICES, SERVICES, read_llminferenceservice
from rayproxy.model import Pending, Route, Snapshot, Suspended
from rayproxy.objects import read_service
from tests.support.deciding import decide
from tests.support.kserve import controller, inferenceservice

STOP = "serving.kserve.io/stop"
STOPPED = {"status": "False", "reason": "Stopped", "message": "Service is stopped"}
STATUS = {"conditions": [{"type": kind} | STOPPED for kind in ("WorkloadsReady", "Ready")]}


def stopped(value: str) -> dict[str, Any]:
    """Return one as KServe has it while it is stopped."""
    made = inferenceservice(annotations={STOP: value}, status=STATUS)
    return made | {"apiVersion": "serving.kserve.io/v1alpha2", "kind": "LLMInferenceService"}


def snapshot(value: str, *services: dict[str, Any]) -> Snapshot:
    found = (read_llminferenceservice(stopped(value)),)
    return Snapshot({LLMINFERENCESERVICES: found, SERVICES: tuple(map(read_service, services))})


@pytest.mark.fault(154)
@pytest.mark.parametrize("value", ["true", "True"])  # KServe takes either
def test_one_that_is_stopped_on_purpose_is_told_as_an_inferenceservice_is(value: str):
    sibling = Snapshot({INFERENCESERVICES: (read_inferenceservice(inferenceservice(annotations={STOP: value})),)})
    [other], [own] = decide(sibling, Policy()), decide(snapshot(value), Policy())
    assert isinstance(other, Suspended)
    assert isinstance(own, Suspended)
    assert own.message == other.message == f"stopped on purpose: remove the annotation {STOP}, and KServe starts it"


@pytest.mark.fault(154)
def test_the_route_of_one_that_is_stopped_stays_while_its_service_is_there():
    service = {
        "metadata": {"name": "chat-kserve-workload-svc", "ownerReferences": [controller(stopped("true"))]},
        "spec": {"clusterIP": "10.0.0.1", "selector": {"a": "b"}, "ports": [{"port": 8000, "protocol": "TCP"}]},
    }
    [own] = decide(snapshot("true", service), Policy())
    assert isinstance(own, Route)


@pytest.mark.fault(154)
@pytest.mark.parametrize("value", ["false", "", "yes"])
def test_one_with_another_word_in_that_annotation_is_waited_for(value: str):
    [own] = decide(snapshot(value), Policy())
    assert isinstance(own, Pending)
