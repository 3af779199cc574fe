"""What becomes of every RayService: the table of decisions."""

from typing import Any

import pytest

from rayproxy.kinds.backend import Policy
from rayproxy.kinds.rayservice import read_rayservice
from rayproxy.model import Decision, Pending, Refused, Rejection, Suspended
from rayproxy.settings import Settings
from tests.support import recorded
from tests.support.deciding import decide
from tests.support.manifests import YOUNG, rayservice, ref, reference, route_of, service, snapshot, target_of

STRICT, OPEN = Policy(), Policy(unowned=True)
CHAT = rayservice()


def decisions(*objects, policy: Policy = STRICT) -> dict[str, Decision]:
    return {str(decision.ref): decision for decision in decide(snapshot(*objects), policy)}


def only(*objects, policy: Policy = STRICT) -> Decision:
    (decision,) = decide(snapshot(*objects), policy)
    return decision


def left_incremental(*objects: dict) -> str:
    """Return who answers for a RayService that left upgrades in steps, beside these objects."""
    return target_of(only(rayservice(status={"activeServiceStatus": {"rayClusterName": "chat-b"}}), *objects)).host


@pytest.mark.fault(130)
def test_of_two_services_the_one_that_selects_the_active_cluster_answers():
    gone, active = ({"ray.io/cluster": name, "ray.io/serve": "true"} for name in ("chat-a", "chat-b"))
    cluster = {"metadata": {"name": "chat-b", "namespace": "default", "uid": "uid-chat-b"}}
    stable = service(CHAT, selector=gone, clusterIP="10.0.0.1")
    of_the_cluster = service(cluster, "chat-b-serve-svc", selector=active, clusterIP="10.0.0.2")
    of_the_cluster["metadata"]["ownerReferences"] = [reference(cluster, "RayCluster")]
    assert left_incremental(stable, of_the_cluster) == "10.0.0.2"
    taken_over = service(CHAT, selector=active, clusterIP="10.0.0.1")
    assert left_incremental(taken_over, of_the_cluster) == "10.0.0.1"
    assert left_incremental(stable) == "10.0.0.1", "there is no better one"


@pytest.mark.fault(130)
def test_a_service_of_a_former_name_answers_until_the_one_of_the_new_name_selects_the_active_cluster():
    active, next_one = ({"ray.io/cluster": name, "ray.io/serve": "true"} for name in ("chat-a", "chat-b"))
    spec = {"serveService": {"metadata": {"name": "third"}}}
    former = service(CHAT, "second", selector=active, clusterIP="10.0.0.1")
    new = service(CHAT, "third", selector=next_one, clusterIP="10.0.0.2")
    for cluster, host in (("chat-a", "10.0.0.1"), ("chat-b", "10.0.0.2")):
        chat = rayservice(spec=spec, status={"activeServiceStatus": {"rayClusterName": cluster}})
        assert target_of(only(chat, former, new)).host == host


def without_owner(obj: dict) -> dict:
    return obj | {"metadata": {k: v for k, v in obj["metadata"].items() if k != "ownerReferences"}}


def test_a_rayservice_with_its_service_is_routed_to_the_services_address():
    assert str(target_of(only(CHAT, service(CHAT)))) == "127.0.0.1:8000"


def test_the_service_named_in_the_spec_comes_before_the_default_one():
    chat = rayservice(spec={"serveService": {"metadata": {"name": "given"}}})
    both = (service(chat, "given", clusterIP="10.0.0.1"), service(chat, clusterIP="10.0.0.2"))
    assert target_of(only(chat, *both)).host == "10.0.0.1"
    assert target_of(only(chat, both[1])).host == "10.0.0.2"


def test_after_a_rename_in_the_spec_the_service_of_the_old_name_goes_on_until_the_new_one_is_there():
    renamed = rayservice(spec={"serveService": {"metadata": {"name": "new"}}})
    old, new = service(renamed, "old", clusterIP="10.0.0.1"), service(renamed, "new", clusterIP="10.0.0.2")
    assert target_of(only(renamed, old)).host == "10.0.0.1"
    assert target_of(only(renamed, old, new)).host == "10.0.0.2"


def test_of_several_services_of_old_names_the_youngest_answers():
    older, younger = service(CHAT, "a", clusterIP="10.0.0.1"), service(CHAT, "b", clusterIP="10.0.0.2")
    younger["metadata"]["creationTimestamp"] = YOUNG
    assert target_of(only(CHAT, older, younger)).host == "10.0.0.2"


def incremental(active: str) -> dict:
    return rayservice(
        spec={"upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"}},
        status={"activeServiceStatus": {"rayClusterName": active}},
    )


def of_cluster(chat: dict, cluster: str, address: str) -> dict:
    obj = service(chat, f"{cluster}-serve-svc", clusterIP=address)
    owner = {"metadata": {"name": cluster, "uid": f"uid-{cluster}"}}
    obj["metadata"]["ownerReferences"] = [reference(owner, "RayCluster")]
    return obj


def test_an_incremental_upgrade_follows_the_active_clusters_own_service():
    services = [of_cluster(CHAT, "chat-1", "10.0.0.1"), of_cluster(CHAT, "chat-2", "10.0.0.2")]
    assert target_of(only(incremental("chat-1"), *services)).host == "10.0.0.1"
    assert target_of(only(incremental("chat-2"), *services)).host == "10.0.0.2"


def upgrade(active: object, pending: object, strategy: str = "NewClusterWithIncrementalUpgrade") -> dict:
    return rayservice(
        spec={"upgradeStrategy": {"type": strategy}},
        status={
            "activeServiceStatus": {"rayClusterName": "chat-1", "trafficRoutedPercent": active},
            "pendingServiceStatus": {"rayClusterName": "chat-2", "trafficRoutedPercent": pending},
        },
    )


UNMOVED = {"10.0.0.1": 100, "10.0.0.2": 0}
OLD, NEW = of_cluster(CHAT, "chat-1", "10.0.0.1"), of_cluster(CHAT, "chat-2", "10.0.0.2")


def shares(*objects: dict) -> dict[str, int]:
    return {target.host: target.weight for target in route_of(only(*objects)).targets}


@pytest.mark.fault(102)
@pytest.mark.parametrize(
    ("active", "pending", "expected"),
    [
        (None, None, UNMOVED),
        (100, 0, UNMOVED),
        (80, 20, {"10.0.0.1": 80, "10.0.0.2": 20}),
        (10, 90, {"10.0.0.2": 90, "10.0.0.1": 10}),
        (0, 100, {"10.0.0.2": 100, "10.0.0.1": 0}),
        (80, 30, UNMOVED),
        (-20, 120, UNMOVED),
        ("80", "20", UNMOVED),
        (True, 99, UNMOVED),
    ],
)
def test_an_incremental_upgrade_shares_the_requests_as_kuberay_does(active, pending, expected):
    found = shares(upgrade(active, pending), OLD, NEW)
    assert list(found.items()) == list(expected.items())


@pytest.mark.fault(102)
@pytest.mark.parametrize("percent", [20, 100])
@pytest.mark.parametrize(
    "new",
    [
        of_cluster(CHAT, "chat-2", "169.254.169.254"),
        of_cluster(CHAT, "chat-2", "None"),
        of_cluster(CHAT, "chat-2", ""),
        of_cluster(CHAT, "chat-2", "10.0.0.2") | {"spec": {**NEW["spec"], "selector": {}}},
        of_cluster(CHAT, "chat-3", "10.0.0.2") | {"metadata": {**OLD["metadata"], "name": "chat-2-serve-svc"}},
        None,
    ],
    ids=["link-local", "headless", "no address", "no selector", "another cluster's", "none"],
)
def test_all_goes_to_the_active_cluster_where_the_pending_ones_service_is_not_usable(new, percent):
    objects = [upgrade(100 - percent, percent), OLD, *filter(None, [new])]
    assert shares(*objects) == {"10.0.0.1": 100}


def test_shares_that_another_strategy_left_behind_are_not_obeyed():
    assert shares(upgrade(80, 20, "NewCluster"), OLD, NEW) == {"10.0.0.1": 100}


def test_both_services_of_a_shared_route_are_behind_it():
    assert [each.key.name for each in route_of(only(upgrade(80, 20), OLD, NEW)).services] == [
        "chat-1-serve-svc",
        "chat-2-serve-svc",
    ]


def test_what_kuberay_writes_each_two_seconds_is_no_change():
    one, other = upgrade(80, 20), upgrade(80, 20)
    other["status"]["lastUpdateTime"] = "2026-11-25T00:00:02Z"
    assert read_rayservice(one) == read_rayservice(other)


def test_an_incremental_upgrade_whose_cluster_has_no_service_yet_uses_the_stable_one():
    assert target_of(only(incremental("chat-3"), service(CHAT, clusterIP="10.0.0.9"))).host == "10.0.0.9"


def test_a_clusters_service_is_no_backend_for_a_rayservice_with_another_active_cluster():
    assert isinstance(only(incremental("chat-2"), of_cluster(CHAT, "chat-1", "10.0.0.1")), Pending)


def test_a_rayservice_without_a_service_is_pending_and_says_which_service_it_waits_for():
    pending = only(rayservice(spec={"serveService": {"metadata": {"name": "given"}}}))
    assert isinstance(pending, Pending)
    assert "no Service given or chat-serve-svc in namespace default with the label ray.io/serve yet" in pending.message


def test_a_service_without_its_address_yet_is_pending():
    pending = only(CHAT, service(CHAT, clusterIP=""))
    assert isinstance(pending, Pending)
    assert pending.message == "the Service default/chat-serve-svc has no ClusterIP yet"


def test_a_service_that_is_being_deleted_is_no_backend_and_a_rayservice_that_is_has_no_route():
    going = service(CHAT)
    going["metadata"]["deletionTimestamp"] = YOUNG
    assert isinstance(only(CHAT, going), Pending)
    assert decisions(rayservice(deletionTimestamp=YOUNG), service(CHAT)) == {}


def test_the_service_that_a_deleted_rayservice_of_the_same_name_left_behind_is_waited_out():
    recreated = rayservice(uid="uid-2")
    pending = only(recreated, service(CHAT))
    assert isinstance(pending, Pending)
    assert "still belongs to the deleted RayService of this name" in pending.message
    assert route_of(only(recreated, service(recreated))).uid == "uid-2"


def test_a_suspended_rayservice_is_told_as_such_and_how_to_resume_it():
    asked = rayservice(spec={"suspend": True})
    done = rayservice(spec={"suspend": True}, status={"conditions": [{"type": "Suspended", "status": "True"}]})
    for obj, words in (
        (done, "spec.suspend is true: set it to false"),
        (asked, "KubeRay (1.7 or newer) has not confir"),
    ):
        decision = only(obj)
        assert isinstance(decision, Suspended)
        assert words in decision.message


def test_a_suspended_rayservice_keeps_its_route_as_long_as_its_service_is_there():
    """KubeRay 1.7 deletes clusters and Services in one turn; an older operator ignores the field and keeps them."""
    asleep = rayservice(spec={"suspend": True})
    assert route_of(only(asleep, service(asleep)))
    going = service(asleep)
    going["metadata"]["deletionTimestamp"] = YOUNG
    assert isinstance(only(asleep, going), Suspended)


def test_a_rayservice_that_was_resumed_before_it_was_suspended_whole_is_pending():
    resumed = rayservice(spec={"suspend": False}, status={"conditions": [{"type": "Suspending", "status": "True"}]})
    assert isinstance(only(resumed), Pending)


def refused_by_kuberay(reason: str, **more: Any) -> dict:
    condition = {"type": "Ready", "status": "False", "reason": reason, "message": "the field x is wrong"}
    return rayservice(status={"conditions": [condition], **more})


@pytest.mark.parametrize("reason", ["ValidationFailed", "InitializingTimeout"])
def test_what_kuberay_refuses_is_told_in_its_words(reason):
    decision = only(refused_by_kuberay(reason))
    assert isinstance(decision, Refused)
    assert decision.reason == reason
    assert decision.message.startswith("the field x is wrong")
    assert decision.message.endswith("make it anew") is (reason == "InitializingTimeout"), "KubeRay never goes on then"


def test_an_edit_that_kuberay_refuses_takes_no_route_away():
    obj = refused_by_kuberay("ValidationFailed", activeServiceStatus={"rayClusterName": "chat-1"})
    assert route_of(only(obj, service(obj)))


TAKEN_UP = {"pendingServiceStatus": {"rayClusterName": "x"}}


@pytest.mark.parametrize(
    ("obj", "reason", "words"),
    [
        (rayservice("a" * 48), "NameTooLong", "has 48 characters and KubeRay 1.4 and newer take 47"),
        (rayservice(spec={"upgradeStrategy": {"type": "newCluster"}}), "InvalidUpgradeStrategy",
         "is 'newCluster' and KubeRay takes NewCluster, None, NewClusterWithIncrementalUpgrade"),
    ],
)  # fmt: skip
def test_what_older_versions_of_kuberay_refuse_in_an_event_alone_is_known_by_its_rule(obj, reason, words):
    decision = only(obj)
    assert isinstance(decision, Refused)
    assert decision.reason == reason
    assert words in decision.message
    assert isinstance(only(obj | {"status": TAKEN_UP}), Pending), "KubeRay 1.3 and older take it"
    assert route_of(only(obj, service(obj)))


@pytest.mark.parametrize(
    "obj",
    [rayservice("a" * 47), rayservice(spec={"upgradeStrategy": {"type": "None"}}),
     rayservice(spec={"upgradeStrategy": {}})],
)  # fmt: skip
def test_what_kuberay_takes_is_pending(obj):
    assert isinstance(only(obj), Pending)


@pytest.mark.fault(97)
@pytest.mark.parametrize("cluster", ["pendingServiceStatus", "activeServiceStatus"])
def test_a_pending_route_says_what_its_failed_application_says(cluster):
    *_, (_, seen) = recorded.looks("failing-app-1.7.0", "")
    assert seen.rayservice
    failing = {cluster: seen.rayservice["status"]["pendingServiceStatus"]}
    obj = rayservice(status=failing)

    pending = only(obj)

    assert isinstance(pending, Pending)
    assert pending.message == (
        "its application default is DEPLOY_FAILED: AttributeError: module 'inference' has no attribute 'nope'"
    )
    assert route_of(only(obj, service(obj))), "what answers is routed, whatever is said of it"


def applications(**found):
    return rayservice(status={"pendingServiceStatus": {"applicationStatuses": found}})


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (applications(a={"status": "RUNNING"}, b={"status": "UNHEALTHY", "message": "x\n  y \t z\n\n"}),
         "its application b is UNHEALTHY: y z"),
        (applications(a={"status": "DEPLOY_FAILED"}), "its application a is DEPLOY_FAILED"),
        (applications(a={"status": "DEPLOY_FAILED", "message": "\x1b[31mred\x1b[0m\x07"}), "DEPLOY_FAILED: red"),
        (applications(a={"status": "DEPLOYING", "message": "soon"}), "no Service chat-serve-svc"),
        (applications(a="text"), "no Service chat-serve-svc"),
    ],
)  # fmt: skip
def test_of_an_applications_words_one_plain_line_is_told(obj, words):
    pending = only(obj)
    assert isinstance(pending, Pending)
    assert words in pending.message


def test_an_applications_words_are_bounded():
    long = applications(**{"n" * 1000: {"status": "UNHEALTHY", "message": "x" * 1_000_000}})

    pending = only(long)
    assert isinstance(pending, Pending)
    assert len(pending.message) == 400


FOREIGN = service(rayservice("other"), "chat-serve-svc")
UNLABELLED = service(CHAT)
UNLABELLED["metadata"]["labels"] = {}
REFUSALS = [
    ("ServiceNotOwned", "is owned by RayService other, not made by KubeRay", FOREIGN),
    ("ServiceNotOwned", "is without an owner, not made by KubeRay", without_owner(service(CHAT))),
    ("ServiceNotOwned", "is without the label ray.io/serve", UNLABELLED),
    ("ExternalName", "is of type ExternalName, which could point anywhere: use ClusterIP",
     service(CHAT, type="ExternalName", externalName="evil.example")),
    ("Headless", "is headless (clusterIP: None): give it a ClusterIP", service(CHAT, clusterIP="None")),
    ("InvalidAddress", "is not an IP address", service(CHAT, clusterIP="localhost")),
    ("InvalidAddress", "is not an IP address", service(CHAT, clusterIP="10.0.0.1; } location /x {")),
    ("InvalidAddress", "is not an IP address", service(CHAT, clusterIP="10.0.0.1\n")),
    ("InvalidAddress", "is not an IP address", service(CHAT, clusterIP="010.0.0.1")),
    ("InvalidAddress", "is not an IP address", service(CHAT, clusterIP="unix:/var/run/docker.sock")),
    ("AddressForbidden", "is link-local: no Service has such an address", service(CHAT, clusterIP="169.254.169.254")),
    ("AddressForbidden", "is link-local", service(CHAT, clusterIP="::ffff:169.254.169.254")),
    ("AddressForbidden", "is link-local", service(CHAT, clusterIP="fe80::1")),
    ("AddressForbidden", "", service(CHAT, clusterIP="fe80::1%eth0")),
    ("AddressForbidden", "is scoped", service(CHAT, clusterIP="fd00::1%eth0")),
    ("AddressForbidden", "is multicast", service(CHAT, clusterIP="224.0.0.1")),
    ("AddressForbidden", "is unspecified", service(CHAT, clusterIP="0.0.0.0")),
    ("AddressForbidden", "is unspecified", service(CHAT, clusterIP="::")),
    ("AddressForbidden", "is the broadcast address", service(CHAT, clusterIP="255.255.255.255")),
    *(("AddressForbidden", "is the metadata service of a cloud", service(CHAT, clusterIP=address)) for address in (
        "100.100.100.200", "::ffff:100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
        "fd00:0ec2:0::23", "fd20:ce::254",
    )),
    *(("AddressForbidden", "is reserved", service(CHAT, clusterIP=address)) for address in (
        "64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe", "::a9fe:a9fe",
    )),
    *(("AddressForbidden", "is a translation of an IPv4 address", service(CHAT, clusterIP=address)) for address in (
        "2002:a9fe:a9fe::1", "2002:7f00:1::", "2002:a00:1::", "2001:0:a00:1::1",
    )),
    ("UnsupportedProtocol", "Service default/chat-serve-svc has no port that speaks plain HTTP/1.1: serve-grpc=9 says",
     service(CHAT, ports=[{"name": "serve-grpc", "port": 9}])),
    ("UnsupportedProtocol", "serve=8 says appProtocol: kubernetes.io/h2c",
     service(CHAT, ports=[{"name": "serve", "port": 8, "appProtocol": "kubernetes.io/h2c"}])),
    ("NoServePort", "name one TCP port 'serve' (found: none)", service(CHAT, ports=[])),
    ("NoServePort", "(found: a=1, b=2)", service(CHAT, ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2}])),
    ("NoServePort", "no usable port", service(CHAT, ports=[{"name": "serve", "port": 0}])),
    ("NoServePort", "no usable port", service(CHAT, ports=[{"name": "serve", "port": 65536}])),
    ("NoServePort", "no usable port", service(CHAT, ports=[{"name": "serve", "port": True}])),
    ("NoServePort", "no usable port", service(CHAT, ports=[{"name": "serve", "port": "8000"}])),
    ("NoServePort", "no usable port", service(CHAT, ports=[{"name": "serve", "port": 8000.0}])),
    ("NoServePort", "no usable port", service(CHAT, ports=[{"name": "serve", "port": 8000, "protocol": "UDP"}])),
]  # fmt: skip


@pytest.mark.fault(27)
@pytest.mark.fault(92)
@pytest.mark.parametrize(("reason", "words", "bad"), REFUSALS)
def test_a_service_that_cannot_be_a_backend_is_refused_with_a_reason(reason, words, bad):
    rejection = only(CHAT, bad)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == reason
    assert words in rejection.message
    assert len(rejection.message) < 500


@pytest.mark.fault(27)
def test_a_service_in_another_namespace_is_never_a_backend():
    elsewhere = service(CHAT)
    elsewhere["metadata"]["namespace"] = "kube-system"
    assert isinstance(only(CHAT, elsewhere), Pending)


def test_a_port_named_serve_comes_before_others_and_one_port_needs_no_name():
    two = [{"name": "metrics", "port": 1}, {"name": "serve", "port": 2}]
    assert target_of(only(CHAT, service(CHAT, ports=two))).port == 2
    assert target_of(only(CHAT, service(CHAT, ports=[{"port": 3}]))).port == 3


def test_an_ipv6_address_stands_in_brackets_and_in_its_shortest_form():
    assert str(target_of(only(CHAT, service(CHAT, clusterIP="FD00:0:0::0001")))) == "[fd00::1]:8000"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_loopback_is_taken_in_both_families(address):
    assert target_of(only(CHAT, service(CHAT, clusterIP=address))).port == 8000


@pytest.mark.fault(145)
@pytest.mark.parametrize("address", ["240.0.0.1", "242.17.3.9", "255.255.255.254"])
def test_a_service_of_class_e_is_routed_as_any_other(address):
    assert str(target_of(only(CHAT, service(CHAT, clusterIP=address)))) == f"{address}:8000"


def test_an_address_outside_the_allowed_cidrs_is_refused_by_name():
    policy = Policy(Settings(allowed_cidrs="10.96.0.0/12,fd00::/8").networks)
    assert route_of(only(CHAT, service(CHAT, clusterIP="10.96.0.1"), policy=policy))
    rejection = only(CHAT, service(CHAT, clusterIP="10.112.0.1"), policy=policy)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "AddressNotAllowed"
    assert "10.112.0.1 of the Service default/chat-serve-svc is outside the allowed CIDRs 10.96.0.0/12, fd00::/8" in (
        rejection.message
    )


def test_a_service_without_an_owner_is_a_backend_only_where_the_policy_says_so():
    hand_made = without_owner(service(CHAT))
    hand_made["metadata"]["labels"] = {}
    assert route_of(only(CHAT, hand_made, policy=OPEN))
    assert isinstance(only(CHAT, hand_made), Rejection)
    assert isinstance(only(CHAT, FOREIGN, policy=OPEN), Rejection)


NAMES = ["Chat", "9chat", "-chat", "chat-", "chat.v2", "chat_v2", "a b", "chat;", "chat\n", "ch%61t", "x" * 64, "ä"]


@pytest.mark.fault(26)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_dns_1035_label_is_refused_and_the_others_are_not_touched(name):
    bad = rayservice(name)
    found = decisions(bad, service(bad), CHAT, service(CHAT))
    rejection = found.pop(f"default/{name}")
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, "is not a DNS-1035 label" in rejection.message) == ("InvalidName", True)
    assert route_of(found["default/chat"])


def test_a_namespace_that_is_no_label_is_refused():
    rejection = only(rayservice(namespace="a/../b"))
    assert isinstance(rejection, Rejection)
    assert rejection.message == "the namespace 'a/../b' is not a DNS-1123 label"


@pytest.mark.fault(26)
def test_63_characters_are_a_name():
    longest = rayservice("a" * 63)
    assert route_of(only(longest, service(longest)))


@pytest.mark.fault(25)
def test_of_two_rayservices_of_one_name_the_older_wins_whatever_the_order():
    young, old = rayservice(namespace="a", creationTimestamp=YOUNG), rayservice(namespace="b")
    objects = [young, service(young), old, service(old)]
    for order in (objects, objects[::-1]):
        found = decisions(*order)
        assert route_of(found["b/chat"])
        loser = found["a/chat"]
        assert isinstance(loser, Rejection)
        assert loser.reason == "NameConflict"


@pytest.mark.fault(25)
def test_of_two_rayservices_of_one_age_the_first_by_namespace_wins_and_no_age_counts_as_youngest():
    same = decisions(rayservice(namespace="b"), rayservice(namespace="a"))
    assert isinstance(same["a/chat"], Pending)
    assert isinstance(same["b/chat"], Rejection)
    ageless = decisions(rayservice(namespace="a", creationTimestamp=None), rayservice(namespace="b"))
    assert isinstance(ageless["a/chat"], Rejection)


@pytest.mark.fault(25)
def test_the_loser_takes_over_when_the_winner_goes():
    winner, loser = rayservice(namespace="b"), rayservice(namespace="a", creationTimestamp=YOUNG)
    gone = rayservice(namespace="b", deletionTimestamp=YOUNG)
    assert isinstance(decisions(winner, service(winner), loser, service(loser))["a/chat"], Rejection)
    assert route_of(decisions(gone, loser, service(loser))["a/chat"])


def test_decisions_come_ordered_by_namespace_and_name():
    rays = [rayservice(name, namespace) for name, namespace in (("b", "x"), ("c", "a"), ("a", "x"))]
    assert [decision.ref for decision in decide(snapshot(*rays), STRICT)] == [
        ref("c", "a"),
        ref("a", "x"),
        ref("b", "x"),
    ]


def test_a_message_never_carries_more_of_a_value_than_a_person_reads():
    long = "x" * 1_000_000
    chat = rayservice(spec={"serveService": {"metadata": {"name": long}}}, status={
        "activeServiceStatus": {"rayClusterName": long}})  # fmt: skip
    stranger = service(CHAT)
    stranger["metadata"]["ownerReferences"] = [reference(CHAT) | {"kind": long, "name": long, "uid": "another"}]
    for decision in (only(chat), only(CHAT, stranger), only(rayservice(long))):
        assert isinstance(decision, Pending | Rejection)
        assert len(decision.message) < 1000, len(decision.message)


@pytest.mark.fault(69)
def test_a_service_whose_endpoints_somebody_writes_is_a_backend_only_where_the_policy_says_so():
    forged = service(CHAT, selector={})
    decision = only(CHAT, forged)
    assert isinstance(decision, Rejection)
    assert decision.reason == "NoSelector"
    assert "whoever may write its endpoints" in decision.message
    assert target_of(only(CHAT, forged, policy=OPEN))
