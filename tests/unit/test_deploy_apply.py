"""How a RayService is applied where the API server does not simply take it."""

from __future__ import annotations

from typing import Any

import pytest

from rayproxy.checkpoint.apply import apply
from rayproxy.checkpoint.last_applied import with_record
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.kube.api import ApiError, Cause

Object = dict[str, Any]

SERVICE = {"serveService": {"metadata": {"name": "m-service"}}}
WANTED: Object = {"metadata": {"name": "m"}, "spec": SERVICE | {"a": 2}}
FIELDS: Object = {"f:metadata": {"f:annotations": {"f:rayproxy/last-applied": {}}}}
OPERATORS = Cause("FieldManagerConflict", ".spec.a", 'conflict with "kuberay-operator" using ray.io/v1')


def stored() -> Object:
    """Return the RayService as the server has it, applied with another value."""
    applied = with_record(WANTED | {"spec": SERVICE | {"a": 1}})
    ours = {"manager": "rayproxy", "operation": "Apply", "fieldsV1": FIELDS}
    return applied | {"metadata": applied["metadata"] | {"resourceVersion": "7", "managedFields": [ours]}}


def refusal(status: int, *causes: Cause) -> ApiError:
    error = ApiError("no", status)
    error.causes = causes
    return error


class Cluster:
    """Record what is applied; answer with the next of the `answers`, or as a server that takes everything."""

    def __init__(self, *answers: ApiError | None, live: Object | None = None) -> None:
        self.applied: list[tuple[bool, bool]] = []
        self._answers = list(answers)
        self._live = live or stored()

    def rayservice(self, _name: str) -> Object:
        return self._live

    def service(self, _name: str) -> None:
        return None

    def patch(self, manifest: Object, *, force: bool, dry_run: bool = False) -> Object:
        assert manifest["metadata"].get("resourceVersion", "7") == "7"
        self.applied.append((force, dry_run))
        answer = self._answers.pop(0) if self._answers else None
        if answer:
            raise answer
        return manifest


def applied(cluster: Cluster) -> Object:
    return apply(cluster, WANTED, force=False)  # type: ignore[arg-type]  # a stand-in


def test_what_the_server_finds_invalid_is_told_in_its_own_words():
    cluster = Cluster(refusal(422, Cause("FieldValueInvalid", "spec.a", "must be odd")))

    with pytest.raises(ApiError, match="no"):
        applied(cluster)
    assert cluster.applied == [(False, False)]


@pytest.mark.fault(93)
def test_a_conflict_with_the_operator_alone_is_forced_at_the_state_that_was_looked_at():
    cluster = Cluster(refusal(409, OPERATORS))

    assert applied(cluster)["spec"]["a"] == 2
    assert cluster.applied == [(False, False), (True, True), (True, True), (True, False)]


def test_a_change_in_between_is_looked_at_again():
    cluster = Cluster(refusal(409, OPERATORS), None, None, refusal(409), None)

    assert applied(cluster)["spec"]["a"] == 2
    assert cluster.applied[-1] == (False, False)


def test_a_rayservice_that_changes_all_the_time_is_given_up():
    with pytest.raises(RefusedError, match="it changes faster than it can be looked at, try again: no"):
        applied(Cluster(*[refusal(409)] * 5))


@pytest.mark.parametrize("force", [False, True])
def test_a_rayservice_that_is_being_deleted_is_not_applied_over_forced_or_not(force):
    live = stored()
    live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster = Cluster(live=live)

    with pytest.raises(RefusedError, match="RayService m is being deleted: try again when it is gone"):
        apply(cluster, WANTED, force=force)  # type: ignore[arg-type]  # a stand-in
    assert cluster.applied == []


def test_what_others_made_is_applied_over_where_that_is_forced():
    others = stored()
    del others["metadata"]["managedFields"]
    cluster = Cluster(live=others)

    assert apply(cluster, WANTED, force=True)["spec"]["a"] == 2  # type: ignore[arg-type]  # a stand-in
    assert cluster.applied == [(True, False)]


def test_a_record_that_the_definition_takes_no_more_proves_nothing():
    cluster = Cluster(refusal(409, OPERATORS), refusal(500))

    with pytest.raises(RefusedError, match='a: conflict with "kuberay-operator"'):
        applied(cluster)
