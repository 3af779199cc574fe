"""KServe's InferenceService: what is read of it, and what becomes of it. The first line that fits decides.

    row          | InferenceService               | its entry Service                    | becomes
    ------------ | ------------------------------ | ------------------------------------ | --------------------------
    gone         | is being deleted               |                                      | nothing
    misnamed     | its name or namespace is none  |                                      | rejected: InvalidName
    modelmesh    | in mode ModelMesh              |                                      | rejected: ModelMesh
    stopped      | stopped on purpose             |                                      | suspended
    refused      | its spec is wrong, says KServe | none                                 | refused, in KServe's words
    long-named   | its name is too long           | none: it could not be named          | refused: NameTooLong
    waiting      | any other                      | none                                 | pending, in KServe's words
    left-over    | any                            | of the deleted one of this name      | pending
    external     | any                            | its own (by uid), ExternalName       | rejected: ExternalName
    headless     | any                            | its own, headless                    | rejected: Headless
    addressless  | any                            | its own, without an address yet      | pending
    grpc         | any                            | its own, gRPC alone                  | rejected: GrpcOnly
    tls          | any                            | its own, TLS alone                   | rejected: NeedsTLS
    unusable     | any                            | its own, not usable for another      | rejected, with the mend
                 |                                | reason                               |
    unselecting  | any                            | its own, without a selector          | rejected: NoSelector, unless
                 |                                |                                      | allowed
    own          | any                            | its own, TCP port 80, or its only    | a route, ready or not
                 |                                | one                                  |
    unready      | never ready so far             | Knative's placeholder                | pending, in KServe's words
    gateway      | any                            | Knative's, leads to a known gateway  | a route to that gateway
    elsewhere    | any                            | Knative's, leads anywhere else       | rejected: ExternalName
    no-gateway   | any                            | Knative's, no gateway to be had      | rejected: NoGateway
    barred       | any                            | Knative's, to a gateway at an        | rejected: AddressNotAllowed
                 |                                | address that is not allowed          |
    ownerless    | any                            | nobody's                             | as its own, if allowed
    foreign      | any                            | somebody else's                      | rejected: ServiceNotOwned

The entry is the transformer where there is one, else the predictor; its Service is NAME-predictor, or where there is
none NAME-predictor-default, of KServe 0.10 and older, which 0.15 still keeps. Which Services KServe makes was read
from its code, 0.11 to 0.20: in mode Standard (RawDeployment) a Service of a ClusterIP, owned by the InferenceService;
in mode Knative (Serverless) Knative's Route owns a placeholder that leads to the gateway, which finds the model by the
Host. Labels and owners' names can be forged by whoever may write Services in the namespace. So the address is always a
ClusterIP, the gateway one of the operator's, and the Host is put together from checked names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from rayproxy.dns_names import DNS_1035_LABEL, DNS_1123_SUBDOMAIN, MAX_NAME
from rayproxy.kinds.backend import MAX_MESSAGE, NotYetError, Policy, RejectedError, Targets, address, age, check_names
from rayproxy.kinds.base import SEE_WHY, Kind, path
from rayproxy.kinds.kserve_status import STOPPED, is_to_stop, is_true, refusal, waits
from rayproxy.kinds.ports import foreign, is_number, shown
from rayproxy.kinds.slices import endpoint_slices
from rayproxy.model import (
    Decision,
    Key,
    Pending,
    Port,
    Ref,
    Refused,
    Rejection,
    Resource,
    Route,
    Service,
    Snapshot,
    Suspended,
    Target,
)
from rayproxy.objects import created, dig, labels_of, read_key, read_service, text

NAME = "inferenceservice"
FILE_PREFIX = "isvc"
# On every Service but the ExternalName of the InferenceService's own name.
LABEL = "serving.kserve.io/inferenceservice"
ROUTE_LABEL = "serving.knative.dev/route"
MODE = "serving.kserve.io/deploymentMode"
HEADLESS_MEND = "set serviceClusterIPNone to false in KServe's ConfigMap and delete the Service: KServe makes it anew"
GATEWAY_MEND = "name it in RAYPROXY_GATEWAYS, and let rayproxy read Services in its namespace"
HTTP_PORT = 80
MAX_LABEL = 63  # characters of a Service's name


@dataclass(frozen=True, slots=True)
class InferenceService:
    """The few fields of an InferenceService that decide its route."""

    key: Key
    uid: str
    created: str  # RFC 3339, or "" where the source has none
    terminating: bool
    entry: str  # transformer or predictor
    predictor: str  # spec.predictor.name, which is a part of the predictor's name from 0.20 on
    mode: str  # Standard, Knative, ...; "" where nobody has said
    stopped: bool
    address: str  # status.components.<entry>.address.url: Knative had it ready once
    waits: tuple[str, str]  # what callers are told, and the whole of the words, where it is not ready
    refusal: tuple[str, str] | None  # reason and words, where KServe goes no further
    ready: bool = field(compare=False)  # decides nothing


def read_inferenceservice(obj: object) -> InferenceService:
    """Read an InferenceService; raise UnreadableError where it has no usable name."""
    entry = "transformer" if isinstance(dig(obj, "spec", "transformer"), dict) else "predictor"
    return InferenceService(
        key=read_key(obj),
        uid=text(obj, "metadata", "uid"),
        created=created(obj),
        terminating=bool(dig(obj, "metadata", "deletionTimestamp")),
        entry=entry,
        predictor=text(obj, "spec", "predictor", "name")[: MAX_LABEL + 1],
        mode=(text(obj, "status", "deploymentMode") or text(obj, "metadata", "annotations", MODE))[:MAX_LABEL],
        stopped=is_to_stop(obj) or is_true(obj, "Stopped"),
        address=text(obj, "status", "components", entry, "address", "url")[: 2 * MAX_NAME],
        waits=waits(obj),
        refusal=refusal(obj),
        ready=is_true(obj, "Ready"),
    )


def read_backend(obj: object) -> Service:
    """Read a Service with what tells whose it is; raise UnreadableError where it has no usable name."""
    labels = labels_of(obj)
    kept = tuple((key, labels[key][:MAX_NAME]) for key in (LABEL, ROUTE_LABEL, "component") if key in labels)
    return replace(read_service(obj), labels=kept, external_name=text(obj, "spec", "externalName")[:MAX_NAME])


def decide(snapshot: Snapshot, policy: Policy) -> list[Decision]:
    """Decide on every InferenceService that is not being deleted, by itself, the oldest first."""
    services = {service.key: service for service in snapshot.of(SERVICES) if not service.terminating}
    there = {service.key: service for service in snapshot.of(GATEWAYS) if not service.terminating}
    around = _Around(services, [there[key] for key in policy.gateways if key in there], policy, snapshot.unread)
    live = sorted((each for each in snapshot.of(INFERENCESERVICES) if not each.terminating), key=age)
    return [_decide(each, around) for each in live]


@dataclass(frozen=True, slots=True)
class _Around:
    """What there is beside an InferenceService: Services by key, and the operator's gateways, the first one first.

    The gateways that are `unread` may be there as well.
    """

    services: Mapping[Key, Service]
    gateways: list[Service]
    policy: Policy
    unread: frozenset[Key]


def _decide(isvc: InferenceService, around: _Around) -> Decision:
    ref = Ref(NAME, isvc.key.namespace, isvc.key.name)
    try:
        _check(isvc)
        if isvc.stopped:
            return Suspended(ref, isvc.uid, STOPPED)
        service = _entry(isvc, around)
        if service is None:
            return _without_service(ref, isvc)
        target = _target(isvc, service, around)
        behind = () if target.name else (service.id,)  # a gateway's endpoints are no model's
        return Route(ref, isvc.uid, path(ref), (target,), isvc.created, behind)
    except NotYetError as not_yet:
        return Pending(ref, isvc.uid, str(not_yet)[:MAX_MESSAGE], not_yet.told)
    except RejectedError as refused:
        return Rejection(ref, isvc.uid, refused.reason, str(refused)[:MAX_MESSAGE], refused.unknown)


def _check(isvc: InferenceService) -> None:
    check_names(isvc.key, "InferenceService")
    if isvc.mode == "ModelMesh":
        raise RejectedError(
            "ModelMesh",
            "in mode ModelMesh a Service is shared by all models of the namespace, so none has a path of its own: "
            "set the deployment mode Standard (RawDeployment before KServe 0.16)",
        )


def _entry(isvc: InferenceService, around: _Around) -> Service | None:
    names = (name for name in _names(isvc) if DNS_1035_LABEL.fullmatch(name))  # it becomes a part of a Host
    return next(filter(None, (around.services.get(Key(isvc.key.namespace, name)) for name in names)), None)


def _names(isvc: InferenceService) -> Iterator[str]:
    """Yield the names that the entry's Service may have: KServe up to 0.15 keeps the one of 0.10, in every mode."""
    given = f"{isvc.predictor}-" if isvc.entry == "predictor" and isvc.predictor else ""
    yield f"{isvc.key.name}-{given}{isvc.entry}"
    yield f"{isvc.key.name}-{isvc.entry}-default"


def _without_service(ref: Ref, isvc: InferenceService) -> Decision:
    name = next(_names(isvc))
    if isvc.refusal:
        return Refused(ref, isvc.uid, *isvc.refusal)
    if len(name) > MAX_LABEL:
        words = f"its Service {name} would have {len(name)} characters, and no Service has more than {MAX_LABEL}"
        return Refused(ref, isvc.uid, "NameTooLong", f"{words}: make the InferenceService anew with a shorter name")
    told, words = isvc.waits
    return Pending(ref, isvc.uid, f"{words}; no Service {name} in namespace {isvc.key.namespace} yet", told)


def _target(isvc: InferenceService, service: Service, around: _Around) -> Target:
    """Return where the calls of `isvc` go; raise RejectedError or NotYetError."""
    match _maker(isvc, service):
        case "KServe":
            return _own(service, around.policy)
        case "Knative":
            return _behind_gateway(isvc, service, around)
        case "nobody" if around.policy.unowned:
            return _own(service, around.policy)
        case "KServe before":
            raise NotYetError(
                f"the Service {service.key} still belongs to the deleted InferenceService of this name, with another "
                "uid: it goes away by itself (in manifests: export both anew)"
            )
    raise RejectedError("ServiceNotOwned", _why_not_owned(service))


def _maker(isvc: InferenceService, service: Service) -> str:
    """Return who made the entry's Service, by its controller and labels; "KServe before" made it for another uid."""
    labels, owner = dict(service.labels), service.owner
    if owner is None:
        return "nobody"
    if (owner.group, owner.kind, owner.name) == ("serving.kserve.io", "InferenceService", isvc.key.name):
        if isvc.uid not in ("", owner.uid):  # one out of git has no uid, and its Service, which was exported, has one
            return "KServe before"
        return "KServe" if labels.get("component") == isvc.entry else ""
    knatives = (owner.group, owner.kind, owner.name, labels.get(ROUTE_LABEL), labels.get(LABEL))
    name = service.key.name
    return "Knative" if knatives == ("serving.knative.dev", "Route", name, name, isvc.key.name) else ""


def _why_not_owned(service: Service) -> str:
    owner = f"owned by {service.owner.kind} {service.owner.name}" if service.owner else "without an owner"
    return (
        f"the Service {service.key} is {owner}, not made by KServe as the entry of this InferenceService: delete it "
        "and let KServe create it, or allow Services without an owner"
    )


def _own(service: Service, policy: Policy) -> Target:
    if service.cluster_ip == "None":
        raise RejectedError("Headless", f"the Service {service.key} is headless (clusterIP: None): {HEADLESS_MEND}")
    return _targets(service, policy)


def _behind_gateway(isvc: InferenceService, service: Service, around: _Around) -> Target:
    if not isvc.address:
        told, words = isvc.waits
        raise NotYetError(f"{words}; Knative has not had it ready so far", told)
    gateway = _gateway(service, around)
    host = address(gateway, around.policy.allowed)
    if not any(port.protocol == "TCP" and port.port == HTTP_PORT for port in gateway.ports):
        raise RejectedError("NoGateway", f"the gateway {gateway.key} has no TCP port {HTTP_PORT}: {GATEWAY_MEND}")
    return Target(host, HTTP_PORT, _host(isvc, service.key))


def _gateway(service: Service, around: _Around) -> Service:
    """Return the gateway that Knative's placeholder leads to; only the operator's are followed."""
    gateways, possible = around.gateways, around.policy.gateways
    if service.type == "ExternalName":
        led = _CLUSTER_NAME.fullmatch(service.external_name)
        key = Key(led["namespace"], led["name"]) if led else None
        if key is None or key not in possible:
            raise RejectedError(
                "ExternalName",
                f"the Service {service.key} leads to {service.external_name!r}, none of the gateways "
                f"{_listed(possible)}: where it is Knative's private gateway, add it to RAYPROXY_GATEWAYS",
            )
        gateways, possible = [gateway for gateway in gateways if gateway.key == key], (key,)
    elif service.cluster_ip != "None":
        words = (
            f"no gateway leads to {service.key}, which is for a mesh alone: give Knative's ingress a private gateway"
        )
        raise RejectedError("NoGateway", words)
    if len(gateways) > 1:
        words = f"it is behind one of {_listed(possible)}: leave the right one in RAYPROXY_GATEWAYS"
        raise RejectedError("NoGateway", words)
    if not gateways:
        words = f"no gateway to {service.key} is there ({_listed(possible)}), or may be read: {GATEWAY_MEND}"
        raise RejectedError("NoGateway", words, unknown=not around.unread.isdisjoint(possible))
    return gateways[0]


def _listed(gateways: Iterable[Key]) -> str:
    return ", ".join(map(str, gateways)) or "(none)"


def _host(isvc: InferenceService, entry: Key) -> str:
    """Return the Host by which the gateway finds the model, in the cluster's own domain where the status tells it."""
    host = f"{entry.name}.{entry.namespace}.svc"
    before, _, domain = isvc.address.rstrip("/").partition(f"http://{host}.")
    known = not before and len(domain) <= MAX_NAME - len(host) and DNS_1123_SUBDOMAIN.fullmatch(domain)
    return f"{host}.{domain if known else 'cluster.local'}"


def _port(service: Service) -> int:
    """Return port 80, else the only TCP port, of those that speak HTTP; raise RejectedError."""
    own = service.key.name
    tcp = [(port, _other(port, own)) for port in service.ports if port.protocol == "TCP" and is_number(port.port)]
    plain = [port.port for port, other in tcp if not other]
    chosen = HTTP_PORT if HTTP_PORT in plain else plain[0] if len(plain) == 1 else None
    if isinstance(chosen, int):
        return chosen
    found = ", ".join(f"{shown(port)} {other}".rstrip() for port, other in tcp[:5]) or "none"
    others = {other for _, other in tcp}
    if others == {"gRPC"}:
        reason, mend = "GrpcOnly", "has ports for gRPC alone: let the container have one for HTTP"
    elif others == {"TLS"}:
        reason, mend = (
            "NeedsTLS",
            (
                "has a port for TLS alone, that of an authorising proxy: set the annotation "
                "security.opendatahub.io/enable-auth to false, or call it by its own address"
            ),
        )
    else:
        reason, mend = "NoHttpPort", "has no port 80 and not one TCP port alone for HTTP"
    raise RejectedError(reason, f"the Service {service.key} {mend} (found: {found})")


def _other(port: Port, service: str) -> str:
    """Return what a port speaks that is not HTTP/1.1 in plain text, or "".

    KServe calls the port of a container that names none like the Service, so like the model: that says nothing.
    """
    told = replace(port, name="") if port.name == service else port
    if "grpc" in told.name or "h2c" in told.name or told.app_protocol.lower() in _GRPC:
        return "gRPC"
    return "TLS" if told.port in _TLS_PORTS or told.app_protocol.lower() == "https" else foreign(told)


_CLUSTER_NAME = re.compile(r"(?P<name>[-a-z0-9]{1,63})\.(?P<namespace>[-a-z0-9]{1,63})\.svc(?:\.[-.a-z0-9]+)?")
_GRPC = ("grpc", "kubernetes.io/h2c", "kubernetes.io/grpc")
_TLS_PORTS = (443, 8443)
_targets = Targets(_port, "delete it and let KServe create it")
INFERENCESERVICES = Resource(
    "serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService", read_inferenceservice
)
SERVICES = Resource("", "v1", "services", "Service", read_backend, selector=LABEL, custom=False)
GATEWAYS = Resource("", "v1", "services", "Service", read_service, selector="", custom=False, only=())
TOLD = {
    "pending": "The InferenceService exists and does not answer yet{}. Try again shortly.",
    "rejected": f"The InferenceService exists and was rejected by the proxy. {SEE_WHY}",
    "suspended": "The InferenceService is stopped on purpose: nothing answers until somebody starts it again.",
    "refused": f"KServe refuses the InferenceService{{}}, so nothing answers until it is mended. {SEE_WHY}",
}
KIND = Kind(
    NAME, FILE_PREFIX, INFERENCESERVICES, SERVICES, "KServe", "KServe 0.11 or newer", TOLD, decide,
    endpoints=endpoint_slices(LABEL), words=lambda isvc: "" if isvc.ready else isvc.waits[1], gateways=GATEWAYS,
)  # fmt: skip
