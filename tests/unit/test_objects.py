"""What is read out of objects that may hold anything."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from rayproxy.gateway.objects import read_gateway, read_httproute
from rayproxy.kinds.kuberay import MAX_WORDS
from rayproxy.kinds.ports import serve_port
from rayproxy.kinds.rayservice import read_rayservice
from rayproxy.model import Key, Owner, Port
from rayproxy.objects import UnreadableError, labels_of, name_in, read_key, read_service
from tests.support.manifests import OLD, rayservice, reference, service


def test_a_rayservice_is_read_to_the_fields_that_decide():
    obj = rayservice(
        spec={
            "serveService": {"metadata": {"name": "given"}},
            "upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"},
        },
        status={"activeServiceStatus": {"rayClusterName": "chat-raycluster-x"}},
    )
    read = read_rayservice(obj)
    assert (read.key, read.uid, read.created) == (Key("default", "chat"), "uid-default-chat", OLD)
    assert (read.serve_service, read.upgrade) == ("given", "NewClusterWithIncrementalUpgrade")
    assert (read.active_cluster, read.taken_up) == ("chat-raycluster-x", True)
    assert (read.suspended, read.halted, read.refusal) == (False, False, None)
    assert not read.terminating


@pytest.mark.fault(58)
def test_objects_that_differ_in_status_and_annotations_alone_read_as_equal():
    calm = rayservice()
    busy = rayservice(
        annotations={"heartbeat": "x" * 1_000_000}, resourceVersion="77", status={"serviceStatus": "Running"}
    )
    assert read_rayservice(calm) == read_rayservice(busy)
    quiet = service(calm)
    loud = service(calm)
    loud["metadata"]["annotations"] = {"a": "b"}
    assert read_service(quiet) == read_service(loud)


def test_the_controller_among_several_owners_is_the_owner():
    chat = rayservice()
    obj = service(chat)
    obj["metadata"]["ownerReferences"] = [{"kind": "Other", "name": "o", "uid": "u"}, reference(chat)]
    assert read_service(obj).owner == Owner("RayService", "chat", "uid-default-chat")
    obj["metadata"]["ownerReferences"] = [reference(chat) | {"controller": "true"}]
    assert read_service(obj).owner is None


def test_a_missing_namespace_is_default():
    assert read_key({"metadata": {"name": "chat"}}) == Key("default", "chat")


@pytest.mark.parametrize("obj", [None, 7, "x", [], {}, {"metadata": None}, {"metadata": {"name": 7}},
                                 {"metadata": {"name": ""}}, {"metadata": []}])  # fmt: skip
@pytest.mark.fault(22)
def test_what_has_no_name_is_unreadable(obj):
    with pytest.raises(UnreadableError, match=r"metadata\.name is missing or not a string"):
        read_rayservice(obj)
    with pytest.raises(UnreadableError):
        read_service(obj)


@pytest.mark.fault(22)
def test_values_of_wrong_types_read_as_missing():
    obj = rayservice(uid=7, creationTimestamp=[], spec={"serveService": "x"}, status=None)
    read = read_rayservice(obj)
    assert (read.uid, read.created, read.serve_service, read.active_cluster) == ("", "", "", "")
    odd = service(rayservice(), clusterIP={"a": 1}, ports={"serve": 1}, type=None)
    assert (read_service(odd).cluster_ip, read_service(odd).ports, read_service(odd).type) == ("", (), "")


@pytest.mark.fault(22)
@pytest.mark.parametrize(
    "value", ["8000", "'8000'", "null", "true", "[1]", "{a: 1}", ".nan", "0x" + "f" * 5000, "1e400"]
)
def test_a_port_of_any_value_can_be_compared_and_shown(value):
    one, two = (
        read_service(service(rayservice(), ports=[{"name": "serve", "port": yaml.safe_load(value)}])) for _ in "12"
    )
    assert one == two
    assert hash(one) == hash(two)
    assert len(repr(one.ports)) < 200


def test_a_port_that_is_no_mapping_is_a_port_of_nothing():
    assert read_service(service(rayservice(), ports=["x"])).ports == (Port("", None, "TCP"),)


@pytest.mark.parametrize(
    ("written", "read"),
    [(OLD, OLD), ("2024-01-01T02:00:00+02:00", OLD), ("2024-01-01 00:00:00", OLD), ("2024-01-01", OLD),
     ("2024-13-45T00:00:00+00:00", ""), ("0001-01-01T00:00:00+02:00", ""), ("yesterday", ""), ("", "")],
)  # fmt: skip
def test_a_time_however_written_orders_like_those_of_the_api_server(written, read):
    assert read_rayservice(rayservice(creationTimestamp=written)).created == read


def test_labels_that_are_no_strings_are_left_out():
    assert labels_of({"metadata": {"labels": {"app": "x", "n": 1, 2: "y"}}}) == {"app": "x"}
    assert labels_of({"metadata": {"labels": ["app"]}}) == {}


def ready(reason: str, status: str = "False", **more) -> dict:
    condition = {"type": "Ready", "status": status, "reason": reason, "message": "words"}
    return {"conditions": [{"type": "UpgradeInProgress", "status": "False"}, condition], **more}


CLUSTER = {"rayClusterName": "chat-x"}


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        # KubeRay 1.6 and 1.7 refuse before they note anything else
        (ready("ValidationFailed"), ("ValidationFailed", "words")),
        # they refuse an edit: the generation that they last took stays noted
        (ready("ValidationFailed", observedGeneration=2, activeServiceStatus=CLUSTER), ("ValidationFailed", "words")),
        # mended: the condition stays until an endpoint is ready, but the newest generation is noted and has a cluster
        (ready("ValidationFailed", observedGeneration=3, pendingServiceStatus=CLUSTER), None),
        (ready("InitializingTimeout", observedGeneration=3, pendingServiceStatus=CLUSTER),
         ("InitializingTimeout", "words")),
        (ready("Initializing", observedGeneration=3), None),
        (ready("ZeroServeEndpoints", observedGeneration=3), None),
        (ready("ValidationFailed", status="True"), None),
        ({}, None), ({"conditions": {}}, None), ({"conditions": [7, None, {"type": 8}]}, None),
    ],
)  # fmt: skip
def test_a_condition_of_kuberay_that_ends_its_work_is_a_refusal_until_the_object_is_mended(status, refusal):
    assert read_rayservice(rayservice(generation=3, status=status)).refusal == refusal


def test_of_kuberays_words_as_much_is_kept_as_a_person_reads():
    status = ready("ValidationFailed")
    status["conditions"][1]["message"] = "x" * 1_000_000
    refusal = read_rayservice(rayservice(status=status)).refusal
    assert refusal
    assert len(refusal[1]) == MAX_WORDS


@pytest.mark.parametrize(("value", "suspended"), [(True, True), (False, False), ("true", False), (1, False)])
def test_a_rayservice_is_suspended_where_its_spec_says_true(value, suspended):
    assert read_rayservice(rayservice(spec={"suspend": value})).suspended is suspended


@pytest.mark.parametrize("kind", ["Suspending", "Suspended"])
def test_that_kuberay_suspends_is_read_from_its_conditions(kind):
    for status in ("True", "False"):
        conditions = {"conditions": [{"type": kind, "status": status}]}
        assert read_rayservice(rayservice(status=conditions)).halted is (status == "True")


@pytest.mark.fault(69)
def test_of_a_service_with_20000_ports_a_handful_is_kept_and_the_right_one_chosen():
    ports = [{"name": f"p{number}", "port": number} for number in range(1, 20_000)]
    kept = read_service(service(rayservice(), ports=[*ports, {"name": "serve", "port": 8000}])).ports
    assert len(kept) < 101
    assert serve_port(kept) == 8000


HUGE = "x" * 1_400_000  # more than etcd takes of a whole object
OWNED = {"metadata": {"name": "a", "ownerReferences": [
    {"apiVersion": HUGE, "kind": HUGE, "name": HUGE, "uid": HUGE, "controller": True}]}}  # fmt: skip
TOLD = {"controllerName": "example.net/other", "parentRef": {"name": "g"}, "conditions": [{"message": HUGE}]}


@pytest.mark.fault(126)
@pytest.mark.parametrize(
    ("read", "obj"),
    [
        (read_service, OWNED),
        (read_gateway, OWNED | {"spec": {"gatewayClassName": HUGE}}),
        (read_httproute, OWNED | {"spec": {"parentRefs": [{"name": "g"}]}, "status": {"parents": [TOLD]}}),
        (read_rayservice, rayservice(spec={"serveService": {"metadata": {"name": HUGE}}}, status={
            each: {"rayClusterName": HUGE} for each in ("activeServiceStatus", "pendingServiceStatus")})),
    ],
)  # fmt: skip
def test_of_a_name_of_a_megabyte_no_more_is_kept_than_a_name_may_have(
    read: Callable[[object], object], obj: dict[str, Any]
):
    assert len(repr(read(obj))) < 3000


def test_a_name_that_is_too_long_is_none_that_something_may_have():
    named = {"name": "x" * 253}
    assert name_in(named, "name") == named["name"]
    assert name_in({"name": named["name"] + "y"}, "name") != name_in(named, "name")
