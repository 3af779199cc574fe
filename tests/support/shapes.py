"""RayServices and Services as people and operators have them, each with what must become of it.

From the samples of KubeRay 1.6.2 (ray-operator/config/samples), from its code of 0.6 to 1.7, and from what
DataTunerX's operator and utility server write. Every RayService is called `chat`, where its name is not the point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.manifests import YOUNG, rayservice, reference, service

Obj = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """Hold objects, and the decision on the first RayService: its kind, and its backend or words of its message."""

    name: str
    objects: tuple[Obj, ...]
    kind: str  # Route, Pending, Suspended, Refused, Rejection; "" where it is left out
    says: str


def port(name: str, number: int, **more: Any) -> Obj:
    return {"name": name, "port": number, **more}


def made(chat: Obj, name: str | None = None, ports: tuple[Obj, ...] = (port("serve", 8000),), **spec: Any) -> Obj:
    """Return the Service that KubeRay 1.1 and newer make."""
    obj = service(chat, name, clusterIP="10.0.0.1", ports=list(ports), **spec)
    labels = obj["metadata"]["labels"]
    labels |= {"ray.io/originated-from-cr-name": chat["metadata"]["name"], "ray.io/originated-from-crd": "RayService"}
    return obj


def without(obj: Obj, *fields: str) -> Obj:
    return obj | {"metadata": {key: value for key, value in obj["metadata"].items() if key not in fields}}


def given(name: str, *ports: Obj, **spec: Any) -> Obj:
    """Return a spec with a serveService."""
    return {"serveService": {"metadata": {"name": name, "labels": {"app": "inference"}},
                             "spec": {"ports": list(ports), **spec}}}  # fmt: skip


def of_cluster(chat: Obj, cluster: str, **spec: Any) -> Obj:
    owner = {"metadata": {"name": cluster, "uid": f"uid-{cluster}"}}
    obj = made(chat, f"{cluster}-serve-svc", **spec)
    obj["metadata"] |= {"ownerReferences": [reference(owner, "RayCluster")],
                        "labels": {"ray.io/serve": f"{cluster}-serve"}}  # fmt: skip
    return obj


def named(obj: Obj, **metadata: Any) -> Obj:
    return obj | {"metadata": obj["metadata"] | metadata}


def condition(kind: str, status: str, reason: str, message: str = "") -> Obj:
    return {"conditions": [{"type": kind, "status": status, "reason": reason, "message": message}]}


CHAT = rayservice()
GIT = without(CHAT, "uid", "creationTimestamp")
INCREMENTAL = {"upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade",
                                   "clusterUpgradeOptions": {"gatewayClassName": "istio"}}}  # fmt: skip
ON_A = {"activeServiceStatus": {"rayClusterName": "chat-a"}}
UTILITY = rayservice(spec=given("chat-service", port("serve", 80, targetPort=8000)))
OPERATOR = rayservice(spec=given("chat", port("serve", 8000, targetPort=8000), type="NodePort"))
OLD_LABELS = {"labels": {"ray.io/service": "chat", "ray.io/serve": "chat-serve"}}
LONG = "my-fine-tuned-model-with-a-name-that-tells-all-of-it"  # 52 characters
KNATIVE = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "chat-serve-svc"}}
TAKEN_UP = {"pendingServiceStatus": {"rayClusterName": f"{LONG}-raycluster-x"}}


def shape(name: str, *objects: Obj, becomes: str, says: str = "10.0.0.1:8000") -> Shape:
    return Shape(name, objects, becomes, says)


def sample(spec: Obj, *args: Any, **kwargs: Any) -> tuple[Obj, Obj]:
    """Return a RayService and the Service that KubeRay makes for it."""
    chat = rayservice(spec=spec)
    return chat, made(chat, *args, **kwargs)


def on_its_way(change: Callable[[Obj], Obj]) -> tuple[Obj, Obj]:
    return CHAT, change(made(CHAT))


ROUTED = [
    shape("the sample", *sample({}), becomes="Route"),
    shape("different port", *sample({}, ports=(port("serve", 9000),)), becomes="Route", says="10.0.0.1:9000"),
    shape("custom serve Service, whose own port KubeRay drops",
          *sample(given("custom", port("custom-ray-serve-service-port", 12345), type="LoadBalancer"), "custom",
                  type="LoadBalancer"), becomes="Route"),
    shape("custom serve Service without a name", *sample({"serveService": {"spec": {"type": "NodePort"}}}),
          becomes="Route"),
    shape("NodePort", *sample({}, type="NodePort", ports=(port("serve", 8000, nodePort=30411),)), becomes="Route"),
    shape("HTTP and gRPC", *sample({}, ports=(port("serve-grpc", 9000, appProtocol="kubernetes.io/h2c"),
                                              port("serve-http", 8000))), becomes="Route"),
    shape("serve and gRPC", *sample({}, ports=(port("serve-grpc", 9000), port("serve", 8000))), becomes="Route"),
    shape("dual stack", *sample({}, clusterIPs=["10.0.0.1", "fd00::1"]), becomes="Route"),
    shape("IPv6", CHAT, service(CHAT, clusterIP="fd00::1"), becomes="Route", says="[fd00::1]:8000"),
    shape("a port of KServe without a name", *sample({}, ports=({"port": 80},)), becomes="Route", says="10.0.0.1:80"),
    shape("v1alpha1 of KubeRay 0.6", CHAT | {"apiVersion": "ray.io/v1alpha1"}, named(made(CHAT), **OLD_LABELS),
          becomes="Route"),
    shape("incremental upgrade", rayservice(spec=INCREMENTAL, status=ON_A), of_cluster(CHAT, "chat-a"),
          of_cluster(CHAT, "chat-b", ports=(port("serve", 1),)), becomes="Route"),
    shape("incremental upgrade of one that was not", rayservice(spec=INCREMENTAL, status=ON_A), made(CHAT),
          becomes="Route"),
    shape("DataTunerX's utility server with KubeRay 1.0", UTILITY, named(made(UTILITY, "chat-service"), **OLD_LABELS),
          becomes="Route"),
    shape("DataTunerX's utility server with KubeRay 1.6", UTILITY, made(UTILITY, "chat-service", (port("serve", 80),)),
          becomes="Route", says="10.0.0.1:80"),
    shape("DataTunerX's operator, with a Service of the RayService's name", OPERATOR,
          made(OPERATOR, "chat", type="NodePort"), becomes="Route"),
    shape("renamed serve Service, the new one not there", rayservice(spec=given("new")), made(CHAT, "old"),
          becomes="Route"),
    shape("a long name with KubeRay 1.3, which keeps the end of the Service's", rayservice(LONG),
          made(rayservice(LONG), f"r{LONG}-serve-svc"[-50:]), becomes="Route"),
    shape("an edit that KubeRay refuses", rayservice(status=condition("Ready", "False", "ValidationFailed")),
          made(CHAT), becomes="Route"),
    shape("not ready for a moment", rayservice(status=condition("Ready", "False", "ZeroServeEndpoints")), made(CHAT),
          becomes="Route"),
    shape("suspend on a KubeRay that does not know it", rayservice(spec={"suspend": True}), made(CHAT),
          becomes="Route"),
]  # fmt: skip

# What only files can hold, or a policy that takes Services without an owner.
ROUTED_FROM_FILES = [
    shape("from git, with the exported Service", GIT, made(CHAT), becomes="Route"),
    shape("from git, with an exported Service of another name", GIT, made(CHAT, "elsewhere"), becomes="Route"),
    shape("from git, with a Service by hand", GIT, without(service(CHAT, clusterIP="10.0.0.1"), "ownerReferences"),
          becomes="Route"),
    shape("exported, with a Service by hand", CHAT, without(service(CHAT, clusterIP="10.0.0.1"), "ownerReferences",
                                                            "labels"), becomes="Route"),
    shape("a Knative Service of the name beside it", KNATIVE, CHAT, made(CHAT), becomes="Route"),
    shape("a List", {"apiVersion": "v1", "kind": "List", "items": [made(CHAT), CHAT]}, becomes="Route"),
    shape("lists as the API server gives them",
          {"apiVersion": "ray.io/v1", "kind": "RayServiceList", "metadata": {"resourceVersion": "1"}, "items": [CHAT]},
          {"apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": [
              {key: value for key, value in made(CHAT).items() if key not in ("kind", "apiVersion")}]},
          becomes="Route"),
]  # fmt: skip

NOT_ROUTED = [
    shape("just made", CHAT, becomes="Pending", says="no Service chat-serve-svc in namespace default"),
    shape("only the head's Service", CHAT, named(made(CHAT, "chat-head-svc"), labels={}), becomes="Pending",
          says="no Service chat-serve-svc"),
    shape("the Service of a RayCluster of one's own", CHAT, of_cluster(CHAT, "mine"), becomes="Pending",
          says="no Service chat-serve-svc"),
    shape("incremental upgrade without an active cluster", rayservice(spec=INCREMENTAL), of_cluster(CHAT, "chat-a"),
          becomes="Pending", says="no Service chat-serve-svc"),
    shape("the Service in another namespace", CHAT, named(made(CHAT), namespace="prod"), becomes="Pending",
          says="no Service chat-serve-svc in namespace default"),
    shape("no address yet", CHAT, service(CHAT, clusterIP=""), becomes="Pending", says="has no ClusterIP yet"),
    shape("the Service goes", *on_its_way(lambda obj: named(obj, deletionTimestamp=YOUNG)), becomes="Pending",
          says="no Service chat-serve-svc"),
    shape("made anew, the old Service still there", rayservice(uid="new"), made(CHAT), becomes="Pending",
          says="still belongs to the deleted RayService"),
    shape("a long name on its way with KubeRay 1.3", rayservice(LONG, status=TAKEN_UP), becomes="Pending",
          says="no Service"),
    shape("suspended", rayservice(spec={"suspend": True}, status=condition("Suspended", "True", "SuspendComplete")),
          becomes="Suspended", says="spec.suspend is true: set it to false"),
    shape("a long name with KubeRay 1.4", rayservice(LONG), becomes="Refused", says="52 characters"),
    shape("a long name with KubeRay 1.6", rayservice(LONG, status=condition("Ready", "False", "ValidationFailed",
                                                                            "no more than 47 characters")),
          becomes="Refused", says="no more than 47 characters"),
    shape("never ready in time", rayservice(status=condition("Ready", "False", "InitializingTimeout", "failed to be")),
          becomes="Refused", says="failed to be"),
    shape("a digit first", rayservice("7b-chat"), becomes="Rejection", says="is not a DNS-1035 label"),
    shape("a dot", rayservice("chat.v2"), becomes="Rejection", says="is not a DNS-1035 label"),
    shape("gRPC alone", *sample({}, ports=(port("serve-grpc", 9000),)), becomes="Rejection", says="says gRPC"),
    shape("TLS", *sample({}, ports=(port("serve", 8443, appProtocol="https"),)), becomes="Rejection", says="https"),
    shape("two ports and none of them serve", *sample({}, ports=(port("a", 1), port("b", 2))), becomes="Rejection",
          says="name one TCP port 'serve' (found: a=1, b=2)"),
    shape("headless", CHAT, service(CHAT, clusterIP="None"),
          becomes="Rejection", says="headless"),
    shape("ExternalName", CHAT, service(CHAT, type="ExternalName"), becomes="Rejection", says="ExternalName"),
    shape("somebody else's Service of that name", CHAT, made(rayservice("other"), "chat-serve-svc"),
          becomes="Rejection", says="owned by RayService other"),
    shape("goes, and waits for its clusters", rayservice(deletionTimestamp=YOUNG), made(CHAT), becomes="", says=""),
    shape("DataTunerX's operator, without the label", named(OPERATOR, labels={}), made(OPERATOR, "chat"), becomes="",
          says=""),
    shape("of another API group", CHAT | {"apiVersion": "example.com/v1"}, made(CHAT), becomes="", says=""),
]  # fmt: skip
