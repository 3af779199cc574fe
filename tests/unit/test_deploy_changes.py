"""What differs between two states of a RayService, and what KubeRay makes of that."""

import copy
from typing import Any

import pytest

from rayproxy.checkpoint.changes import changes, overwritten, shown
from rayproxy.checkpoint.last_applied import last_applied, with_record
from rayproxy.checkpoint.second_cluster import cost, second_cluster
from tests.support import recorded


@pytest.mark.parametrize("release", recorded.RELEASES)
def test_what_the_operator_writes_back_is_no_difference(release):
    before, after = recorded.finalizer(release)

    assert before["spec"] != after["spec"]
    assert changes(before["spec"], after["spec"]) == []


@pytest.mark.parametrize("release", recorded.RELEASES)
def test_the_stand_in_for_the_operator_writes_back_what_was_recorded(release):
    before, after = recorded.finalizer(release)

    assert recorded.as_go_writes(before["spec"]) == after["spec"]


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b"),
        ({"a": {"b": 1}}, {"a": {}}, "a"),
        ({"env": [{"name": "X", "value": "1"}]}, {"env": [{"name": "X", "value": "2"}]}, 'env[name="X"].value'),
        ({"env": [{"name": "X"}]}, {"env": [{"name": "X"}, {"name": "Y"}]}, 'env[name="Y"]'),
        ({"env": [{"name": "X"}, {"name": "Y"}]}, {"env": [{"name": "Y"}, {"name": "X"}]}, "env"),
        ({"args": ["a", "b"]}, {"args": ["a", "c"]}, "args[1]"),
        ({"args": ["a"]}, {"args": "a"}, "args"),
        ({"value": "2000m"}, {"value": "2"}, "value"),
        ({"limits": {"cpu": "2000m"}}, {"limits": {"cpu": "3"}}, "limits.cpu"),
    ],
)
def test_a_difference_is_named_as_deep_down_as_it_can_be(before, after, path):
    assert [change.path for change in changes(before, after)] == [path]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"limits": {"cpu": "2000m"}}, {"limits": {"cpu": 2}}),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}),
        ({"a": {}, "b": None, "c": [], "d": ""}, {}),
    ],
)
def test_spellings_of_one_thing_do_not_differ(before, after):
    assert changes(before, after) == []


def test_what_others_changed_and_we_leave_alone_is_not_overwritten():
    applied, live = {"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1, "c": 3}

    assert overwritten(applied, live, {"a": 2, "b": 5, "c": 3}) == []
    assert [change.path for change in overwritten(applied, live, {"a": 1, "b": 5, "c": 3})] == ["a"]


def test_a_change_within_what_we_replace_as_a_whole_is_overwritten():
    applied, live = {"a": {"b": 1}}, {"a": {"b": 2}}

    assert [change.path for change in overwritten(applied, live, {})] == ["a.b"]


def test_a_value_is_shown_in_one_bounded_line():
    assert shown(None) == "absent"
    assert shown("x\ny") == '"x\\ny"'
    assert len(shown("x" * 1000)) < 100


MANIFEST = {"metadata": {"name": "m", "labels": {"app": "prediction"}}, "spec": {"a": 1}}
OURS = {"manager": "rayproxy", "operation": "Apply"}


def stored(manifest, manager=OURS):
    fields: dict[str, Any] = {"f:metadata": {"f:annotations": {"f:rayproxy/last-applied": {}}}}
    return manifest | {"metadata": manifest["metadata"] | {"managedFields": [manager | {"fieldsV1": fields}]}}


def test_what_was_applied_last_is_read_back_from_the_record():
    assert last_applied(stored(with_record(MANIFEST))) == MANIFEST


@pytest.mark.parametrize(
    "record", ["", "{", "[]", '{"spec": 1}', '{"metadata": {"name": "other"}, "spec": {}}', "[" * 9999]
)
def test_a_spoiled_record_is_none(record):
    found = stored(MANIFEST)
    found["metadata"]["annotations"] = {"rayproxy/last-applied": record}

    assert last_applied(found) is None


def test_a_record_of_another_manager_is_none():
    assert last_applied(stored(with_record(MANIFEST), {"manager": "kubectl-edit", "operation": "Update"})) is None


def running():
    _, after = recorded.finalizer("1.7.0")
    return after | {"status": {"activeServiceStatus": {"rayClusterName": "m-1"}}}


def worker(rayservice):
    return rayservice["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]


def test_a_change_of_the_cluster_starts_a_second_one_and_says_what_that_takes():
    live, after = running(), running()
    worker(after)["template"]["spec"]["containers"][0]["env"][0]["value"] = "/elsewhere"
    worker(after)["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "2"
    worker(after)["replicas"] = 3

    assert second_cluster(live, after) == (
        'KubeRay starts a second cluster for this change (spec.rayClusterConfig.workerGroupSpecs[groupName="worker"]'
        '.template.spec.containers[name="ray-worker"].env[name="BASE_MODEL_DIR"].value and 1 more). It asks for '
        "6 nvidia.com/gpu, 2.5 CPUs and 13Gi of memory, beside what runs now: the old cluster goes 105 s after the "
        "new one has taken over"
    )


def no_change(_):
    pass


def other_config(rayservice):
    rayservice["spec"]["serveConfigV2"] += "# more\n"


def other_service(rayservice):
    rayservice["spec"]["serveService"]["metadata"]["labels"]["app"] = "other"


def other_strategy(rayservice):
    worker(rayservice).update(scaleStrategy={"workersToDelete": ["x"]})


def as_the_operator(rayservice):
    rayservice["spec"] = recorded.as_go_writes(rayservice["spec"])


@pytest.mark.parametrize("change", [no_change, other_config, other_service, other_strategy, as_the_operator])
def test_what_kuberay_changes_in_place_starts_no_second_cluster(change):
    after = running()
    change(after)

    assert second_cluster(running(), after) == ""


def test_another_number_of_workers_is_told_to_the_next_cluster_alone_and_the_command_for_this_one_is_said():
    live, after = running(), running()
    worker(after).update(replicas=2, minReplicas=2, maxReplicas=5)
    said = second_cluster(live, after)
    assert "patch raycluster m-1 --type=json" in said
    for field, number in (("maxReplicas", 5), ("minReplicas", 2), ("replicas", 2)):
        assert f'{{"op": "replace", "path": "/spec/workerGroupSpecs/0/{field}", "value": {number}}}' in said

    after["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] = True
    live["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] = True
    assert "0/replicas" not in second_cluster(live, after)  # the autoscaler's


def test_kuberay_1_0_starts_a_second_cluster_for_another_minimum_as_well():
    live, after = running(), running()
    for each in (live, after):
        each["spec"]["serveConfig"] = {}
    worker(after)["minReplicas"] = 0

    assert "minReplicas" in second_cluster(live, after)


def test_a_change_of_tolerations_alone_may_have_no_effect_and_that_is_said():
    live, after = running(), running()
    worker(after)["template"]["spec"]["tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    assert "KubeRay does nothing for a change of tolerations alone" in second_cluster(live, after)

    worker(after)["template"]["spec"]["nodeSelector"] = {"pool": "gpu"}
    assert "KubeRay starts a second cluster for this change" in second_cluster(live, after)


def test_where_nothing_serves_yet_nothing_runs_beside_it():
    live, after = running(), running()
    del live["status"]
    worker(after)["groupName"] = "other"

    assert second_cluster(live, after) == ""


def test_a_request_counts_where_it_differs_from_the_limit_and_hosts_multiply():
    cluster = copy.deepcopy(running()["spec"]["rayClusterConfig"])
    cluster["workerGroupSpecs"][0]["numOfHosts"] = 4

    assert cost(cluster) == "3 CPUs and 16Gi of memory"
