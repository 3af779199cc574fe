"""What `rayproxy deploy --wait` asks the cluster for in one look."""

from __future__ import annotations

from typing import Any

import pytest

from rayproxy.checkpoint.wait import observe

Object = dict[str, Any]


class Cluster:
    """Hold a RayService, and an Event about whatever is asked for."""

    def __init__(self, status: Object) -> None:
        self._status = status

    def rayservice(self, name: str) -> Object:
        return {"metadata": {"name": name}, "spec": {}, "status": self._status}

    def pods(self, ray_cluster: str) -> list[Object]:
        return [{"metadata": {"name": f"{ray_cluster}-head"}}]

    def events(self, name: str) -> list[Object]:
        return [{"involvedObject": {"name": name}}]

    def service(self, _name: str) -> None:
        return None


@pytest.mark.fault(168)
@pytest.mark.parametrize(
    ("status", "names"),
    [
        ({}, ["m"]),
        ({"activeServiceStatus": {"rayClusterName": "m-a"}}, ["m", "m-a", "m-a-head"]),
        (
            {"activeServiceStatus": {"rayClusterName": "m-a"}, "pendingServiceStatus": {"rayClusterName": "m-b"}},
            ["m", "m-b", "m-b-head"],
        ),
    ],
)
def test_events_are_those_about_the_rayservice_the_cluster_that_comes_up_and_its_pods(status, names):
    seen = observe(Cluster(status), "m", None)  # type: ignore[arg-type]  # a stand-in
    assert [event["involvedObject"]["name"] for event in seen.events] == names
