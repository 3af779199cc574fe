"""A second `rayproxy deploy`, after KubeRay's operator wrote the RayService back, and after others changed it."""

from typing import Any

import pytest

from rayproxy.checkpoint.apply import apply
from rayproxy.checkpoint.cluster import Cluster
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.kube.login import connect_by_kubeconfig
from tests.support import recorded
from tests.support.cli import FailedError
from tests.support.objects import MERGE, RAYSERVICES, there

WORDS = ("-f", "documented.yaml", "--env", "TURN=1")
AGAIN = ("-f", "documented.yaml", "--env", "TURN=2")


@pytest.fixture
def path(server, namespace):
    """Return the path of the RayService, whose finalizer goes with the test."""
    path = f"{RAYSERVICES.format(namespace)}/finetune-sample"
    yield path
    if there(server, path):
        server.call("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)


def turn(rayservice):
    (group,) = rayservice["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    return next(each["value"] for each in container["env"] if each["name"] == "TURN")


def edit(server, path, turn):
    """Change the workers' environment as `kubectl edit` does."""
    groups = server.call("GET", path)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    for each in groups[0]["template"]["spec"]["containers"][0]["env"]:
        each["value"] = turn if each["name"] == "TURN" else each["value"]
    change = {"spec": {"rayClusterConfig": {"workerGroupSpecs": groups}}}
    return server.call("PATCH", f"{path}?fieldManager=kubectl-edit", change, MERGE)


@pytest.mark.fault(93)
def test_what_the_operator_wrote_back_unchanged_is_nobodys_wish(server, path, rayproxy):
    rayproxy("deploy", *WORDS)
    recorded.add_finalizer(server, path)

    rayproxy("deploy", *AGAIN)

    found = server.call("GET", path)
    assert turn(found) == "2"
    assert found["metadata"]["finalizers"] == [recorded.FINALIZER]
    rayproxy("deploy", *WORDS)
    assert turn(server.call("GET", path)) == "1"


@pytest.mark.fault(94)
def test_an_edit_that_the_operator_took_over_is_refused_by_its_field_and_value(server, path, rayproxy):
    rayproxy("deploy", *WORDS)
    edit(server, path, "by hand")
    recorded.add_finalizer(server, path)

    with pytest.raises(FailedError) as refused:
        rayproxy("deploy", *AGAIN)

    assert '.env[name="TURN"].value: conflict with "kuberay-operator"' in str(refused.value)
    assert 'it is "by hand", and was applied as "1"' in str(refused.value)
    assert turn(server.call("GET", path)) == "by hand"
    rayproxy("deploy", *AGAIN, "--force")
    assert turn(server.call("GET", path)) == "2"


@pytest.mark.fault(94)
def test_an_edit_after_the_operator_is_refused_by_field_manager_and_value(server, path, rayproxy):
    rayproxy("deploy", *WORDS)
    recorded.add_finalizer(server, path)
    edit(server, path, "by hand")

    with pytest.raises(FailedError, match=r'TURN.*conflict with "kubectl-edit".*it is "by hand".*applied as "1"'):
        rayproxy("deploy", *AGAIN)

    assert turn(server.call("GET", path)) == "by hand"


def test_an_edit_that_already_is_what_is_asked_for_is_no_conflict(server, path, rayproxy):
    rayproxy("deploy", *WORDS)
    edit(server, path, "2")
    recorded.add_finalizer(server, path)

    rayproxy("deploy", *AGAIN)

    assert turn(server.call("GET", path)) == "2"


def test_what_others_added_to_a_list_of_the_operators_is_not_lost(server, path, rayproxy):
    rayproxy("deploy", *WORDS)
    groups = server.call("GET", path)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    groups[0]["template"]["spec"]["nodeSelector"] = {"pool": "theirs"}
    change = {"spec": {"rayClusterConfig": {"workerGroupSpecs": groups}}}
    server.call("PATCH", f"{path}?fieldManager=kubectl-edit", change, MERGE)
    recorded.add_finalizer(server, path)

    with pytest.raises(FailedError, match=r'nodeSelector: .* it is \{"pool": "theirs"\}, and was applied as absent'):
        rayproxy("deploy", *AGAIN)


@pytest.mark.fault(94)
def test_a_record_that_somebody_else_wrote_proves_nothing(server, path, rayproxy):
    rayproxy("deploy", *WORDS)
    edit(server, path, "by hand")
    recorded.add_finalizer(server, path)
    record = server.call("GET", path)["metadata"]["annotations"]["rayproxy/last-applied"]
    forged = {"metadata": {"annotations": {"rayproxy/last-applied": record.replace('"1"', '"by hand"')}}}
    server.call("PATCH", f"{path}?fieldManager=kubectl-edit", forged, MERGE)

    with pytest.raises(FailedError, match=r'workerGroupSpecs: conflict with "kuberay-operator"'):
        rayproxy("deploy", *AGAIN)


def test_nothing_is_applied_to_a_rayservice_that_is_being_deleted(server, path, rayproxy):
    rayproxy("deploy", *WORDS)
    recorded.add_finalizer(server, path)
    server.call("DELETE", path)

    with pytest.raises(FailedError, match="is being deleted: try again when it is gone"):
        rayproxy("deploy", *AGAIN)


@pytest.mark.parametrize("how", [(), ("--dry-run",)], ids=["applied", "dry run"])
def test_before_a_change_that_starts_a_second_cluster_it_is_said_what_that_asks_for(how, server, path, rayproxy):
    rayproxy("deploy", *WORDS)
    assert "second cluster" not in rayproxy.said
    recorded.add_finalizer(server, path)
    status = {"status": {"activeServiceStatus": {"rayClusterName": "finetune-sample-x7k2p"}}}
    server.call("PATCH", f"{path}/status", status, MERGE)

    rayproxy("deploy", *WORDS, "--read-timeout", "100", *how)
    assert "second cluster" not in rayproxy.said
    rayproxy("deploy", *AGAIN, *how)

    assert "note: KubeRay starts a second cluster for this change (spec.rayClusterConfig.workerGroup" in rayproxy.said
    assert "It asks for 1 nvidia.com/gpu, 9 CPUs and 52Gi of memory, beside what runs now" in rayproxy.said
    assert turn(server.call("GET", path)) == ("1" if how else "2")


@pytest.mark.fault(93)
@pytest.mark.parametrize("release", recorded.RELEASES)
def test_the_recorded_update_of_the_operator_stands_in_no_ones_way(release, defined, server, path, kubeconfig):
    if defined.kuberay == "1.0":
        pytest.skip("KubeRay 1.0 writes no finalizer")
    before, after = recorded.finalizer(release)
    name, namespace = path.rpartition("/")[2], path.split("/")[-3]
    kind: dict[str, Any] = {"apiVersion": "ray.io/v1", "kind": "RayService"}
    applied = kind | {"metadata": {"name": name, "labels": before["metadata"]["labels"]}, "spec": before["spec"]}
    cluster = Cluster(connect_by_kubeconfig(str(kubeconfig), None), namespace)
    apply(cluster, applied, force=False)
    found = recorded.add_finalizer(server, path, after["spec"])
    owned = [each["fieldsV1"] for each in found["metadata"]["managedFields"] if each["manager"] == recorded.MANAGER]
    assert "f:workerGroupSpecs" in owned[0]["f:spec"]["f:rayClusterConfig"]

    second = {"rayClusterConfig": changed(applied["spec"]["rayClusterConfig"])}
    apply(cluster, applied | {"spec": applied["spec"] | second}, force=False)

    spec = server.call("GET", path)["spec"]
    assert spec["rayClusterConfig"]["workerGroupSpecs"][0]["rayStartParams"] == {"num-cpus": "2"}
    edited = {"spec": {"rayClusterConfig": {"rayVersion": "2.99.0"}}}
    server.call("PATCH", f"{path}?fieldManager=kubectl-edit", edited, MERGE)
    with pytest.raises(RefusedError, match=r'"kubectl-edit".*it is "2\.99\.0", and was applied as "2\.60\.0"'):
        apply(cluster, applied, force=False)


def changed(cluster):
    """Return a rayClusterConfig with another worker group."""
    (group,) = cluster["workerGroupSpecs"]
    return cluster | {"workerGroupSpecs": [group | {"rayStartParams": {"num-cpus": "2"}}]}
