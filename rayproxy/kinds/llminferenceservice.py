"""KServe's LLMInferenceService: what is read of it, and what becomes of it. The first line that fits decides.

    row          | LLMInferenceService            | its workload's Service               | becomes
    ------------ | ------------------------------ | ------------------------------------ | --------------------------
    gone         | is being deleted               |                                      | nothing
    misnamed     | its name or namespace is none  |                                      | rejected: InvalidName
    stopped      | stopped on purpose             | none: KServe has taken it away       | suspended
    waiting      | any other                      | none                                 | pending, in KServe's words
    left-over    | any                            | of the deleted one of this name      | pending
    foreign      | any                            | somebody else's                      | rejected: ServiceNotOwned
    ownerless    | any                            | nobody's                             | as its own, if allowed
    addressless  | any                            | its own, without an address yet      | pending
    tls          | any                            | its own, port 8000 for TLS           | rejected: NeedsTLS
    unusable     | any                            | its own, not usable for another      | rejected, with the mend
                 |                                | reason, such as ExternalName         |
    unselecting  | any                            | its own, without a selector          | rejected: NoSelector, unless
                 |                                |                                      | allowed
    own          | any                            | its own, TCP port 8000               | a route, ready or not

Which Service KServe makes was read from its code, 0.18 to 0.20: one of a ClusterIP, port 8000, owned by the
LLMInferenceService. The scheduler, which only a gateway with an extension can ask, is passed by.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from rayproxy.kinds.backend import MAX_MESSAGE, NotYetError, Policy, RejectedError, Targets, age, check_names
from rayproxy.kinds.base import SEE_WHY, Kind, path
from rayproxy.kinds.kserve_status import READY, STOPPED, UNLOOKED, UNSEEN, failed, is_to_stop, waiting
from rayproxy.kinds.ports import foreign, shown
from rayproxy.kinds.slices import endpoint_slices
from rayproxy.model import Decision, Key, Pending, Ref, Rejection, Resource, Route, Service, Snapshot, Suspended
from rayproxy.objects import condition, created, dig, read_key, read_service, text

NAME = "llminferenceservice"
FILE_PREFIX = "llm"
LABEL = "app.kubernetes.io/part-of=llminferenceservice"  # of the Services that KServe makes for one
SUFFIX = "-kserve-workload-svc"
CONDITIONS = ("PresetsCombined", "WorkloadsReady", "RouterReady", "Ready")
HTTP_PORT = 8000
MAX_LABEL, DIGEST = 63, 32  # characters of a Service's name, and of the digest that shortens it
TLS_MEND = "set enableLLMInferenceServiceTLS to false in KServe's ConfigMap (KServe 0.18 or newer)"


@dataclass(frozen=True, slots=True)
class LLMInferenceService:
    """The few fields of an LLMInferenceService that decide its route."""

    key: Key
    uid: str
    created: str  # RFC 3339, or "" where the source has none
    terminating: bool
    stopped: bool
    waits: tuple[str, str]  # what callers are told, and the whole of the words, where it is not ready
    ready: bool = field(compare=False)  # all is well; decides nothing


def read_llminferenceservice(obj: object) -> LLMInferenceService:
    """Read an LLMInferenceService; raise UnreadableError where it has no usable name."""
    found = _not_true(obj)
    return LLMInferenceService(
        key=read_key(obj),
        uid=text(obj, "metadata", "uid"),
        created=created(obj),
        terminating=bool(dig(obj, "metadata", "deletionTimestamp")),
        stopped=is_to_stop(obj),
        waits=found or ((READY, READY) if dig(obj, "status", "conditions") else (UNSEEN, UNLOOKED)),
        ready=found is None,
    )


def _not_true(obj: object) -> tuple[str, str] | None:
    """Return what callers are told, and all the words, of the first condition that is not True."""
    for name in CONDITIONS:
        found = condition(obj, name)
        if found and found.get("status") != "True":
            is_false = found.get("status") == "False"
            return failed(f"{name} is False", found) if is_false else waiting(f"{name} is Unknown", found)
    return None


def decide(snapshot: Snapshot, policy: Policy) -> list[Decision]:
    """Decide on every LLMInferenceService that is not being deleted, by itself, the oldest first."""
    services = {service.key: service for service in snapshot.of(SERVICES) if not service.terminating}
    live = sorted((each for each in snapshot.of(LLMINFERENCESERVICES) if not each.terminating), key=age)
    return [_decide(each, services.get(Key(each.key.namespace, _child(each.key.name))), policy) for each in live]


def _child(name: str) -> str:
    """Return the name of the workload's Service; Knative's library, which KServe uses, shortens a long one."""
    if len(name) + len(SUFFIX) <= MAX_LABEL:
        return name + SUFFIX
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return name[: MAX_LABEL - DIGEST - len(SUFFIX)] + digest + SUFFIX


def _decide(llm: LLMInferenceService, service: Service | None, policy: Policy) -> Decision:
    ref = Ref(NAME, llm.key.namespace, llm.key.name)
    try:
        check_names(llm.key, TITLE)
        if service is None and llm.stopped:
            return Suspended(ref, llm.uid, STOPPED)
        if service is None:
            told, words = llm.waits
            missing = f"no Service {_child(llm.key.name)} in namespace {llm.key.namespace} yet"
            raise NotYetError(f"{words}; {missing}", told)
        _check_owner(llm, service, policy)
        return Route(ref, llm.uid, path(ref), (_targets(service, policy),), llm.created, (service.id,))
    except NotYetError as not_yet:
        return Pending(ref, llm.uid, str(not_yet)[:MAX_MESSAGE], not_yet.told)
    except RejectedError as refused:
        return Rejection(ref, llm.uid, refused.reason, str(refused)[:MAX_MESSAGE])


def _check_owner(llm: LLMInferenceService, service: Service, policy: Policy) -> None:
    owner = service.owner
    if owner is None and policy.unowned:
        return
    if owner is None or (owner.group, owner.kind, owner.name) != (GROUP, TITLE, llm.key.name):
        found = f"owned by {owner.kind} {owner.name}" if owner else "without an owner"
        raise RejectedError(
            "ServiceNotOwned",
            f"the Service {service.key} is {found}, not made by KServe for this LLMInferenceService: delete it and "
            "let KServe create it, or allow Services without an owner",
        )
    if llm.uid not in ("", owner.uid):  # one out of git has no uid, and its Service, which was exported, has one
        raise NotYetError(
            f"the Service {service.key} still belongs to the deleted LLMInferenceService of this name, with another "
            "uid: it goes away by itself (in manifests: export both anew)"
        )


def _port(service: Service) -> int:
    port = next((each for each in service.ports if each.protocol == "TCP" and each.port == HTTP_PORT), None)
    if port is None:
        raise RejectedError("NoHttpPort", f"the Service {service.key} has no TCP port {HTTP_PORT}")
    says = "TLS" if port.app_protocol.lower() == "https" else foreign(port)
    if says.startswith("TLS"):
        raise RejectedError("NeedsTLS", f"the Service {service.key} speaks TLS at {shown(port)}: {TLS_MEND}")
    if says:
        raise RejectedError("UnsupportedProtocol", f"the Service {service.key} speaks no HTTP/1.1: {says}")
    return HTTP_PORT


_targets = Targets(_port, "delete it and let KServe create it")
GROUP, TITLE = "serving.kserve.io", "LLMInferenceService"
LLMINFERENCESERVICES = Resource(GROUP, "v1alpha2", "llminferenceservices", TITLE, read_llminferenceservice)
SERVICES = Resource("", "v1", "services", "Service", read_service, selector=LABEL, custom=False)
TOLD = {
    "pending": "The LLMInferenceService exists and does not answer yet{}. Try again shortly.",
    "rejected": f"The LLMInferenceService exists and was rejected by the proxy. {SEE_WHY}",
    "suspended": "The LLMInferenceService is stopped on purpose: nothing answers until somebody starts it again.",
}
KIND = Kind(
    NAME, FILE_PREFIX, LLMINFERENCESERVICES, SERVICES, "KServe", "KServe 0.18 or newer", TOLD, decide,
    endpoints=endpoint_slices(LABEL), words=lambda llm: "" if llm.ready else llm.waits[1],
)  # fmt: skip
