"""What `rayproxy check` asks an API server: permissions, CRDs, and which objects the selector takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from rayproxy import kinds, wiring
from rayproxy.kinds.base import Kind
from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.kube.session import CredentialsError
from rayproxy.model import Key, Resource
from rayproxy.objects import UnreadableError, labels_of, read_key
from rayproxy.selector import parse_selector
from rayproxy.settings import Settings
from rayproxy.sources.namespaces import RESOURCE

Finding = tuple[str, str | None]
PAGE = "100"  # objects
NAMED = 3  # objects without a route that are named
_VERBS = ("list", "watch")
_ONE_LABEL = re.compile(r"[^\s=!<>(),]+==?[^\s=!<>(),]+")


def permissions(server: ApiServer, settings: Settings) -> Iterator[Finding]:
    """Yield (what was looked at, None or what is wrong); a kind that is not installed needs no permission."""
    chosen = wiring.chosen_kinds(settings)
    custom = [kind for kind in chosen if kind.routed.custom]
    missing = {kind.name: wrong(partial(_crd, server, kind)) for kind in custom}
    there = [kind for kind in chosen if not missing.get(kind.name)]
    looked_for = there or chosen
    resources = [each for each in wiring.resources(settings) if any(each in kind.resources for kind in looked_for)]
    resources += kinds.endpoints(looked_for)
    for attributes in _needed(settings, resources):
        namespace = attributes["namespace"]
        where = f"in {namespace}" if namespace else "in all namespaces"
        what = f"may {attributes['verb']} {attributes['resource']} {attributes['name']}".rstrip()
        yield f"{what} {where}", wrong(partial(may, server, attributes))
    if settings.names_configmap:
        yield from _held_names(server, settings)
    for kind in custom:
        words = "is installed" if kind in there or not there else "is not installed: none of its objects is routed"
        yield f"the {kind.title} CRD {words}", None if there else missing[kind.name]
    for kind in there:
        yield _labelled(server, settings, kind)


def _needed(settings: Settings, resources: list[Resource[Any]]) -> Iterator[dict[str, str]]:
    """Yield what must be allowed, each once, as a SelfSubjectAccessReview has it."""
    needed = [(each.group, each.plural, verb) for each in resources if each.only is None for verb in _VERBS]
    needed += [("", "events", "create")] if settings.events else []
    for namespace in settings.namespaces or ("",):
        for group, plural, verb in dict.fromkeys(needed):
            yield {"group": group, "resource": plural, "verb": verb, "namespace": namespace, "name": ""}
    for each in resources:
        for key, verb in ((key, verb) for key in each.only or () for verb in _VERBS):
            yield {"group": each.group, "resource": each.plural, "verb": verb} | asdict(key)


def _held_names(server: ApiServer, settings: Settings) -> Iterator[Finding]:
    try:
        namespace, name = wiring.names_configmap(settings)
    except CredentialsError as error:
        yield f"ConfigMap {settings.names_configmap} for held names", str(error)
        return
    for verb in ("get", "patch"):
        attributes = {"group": "", "resource": "configmaps", "verb": verb, "namespace": namespace, "name": name}
        yield f"may {verb} the ConfigMap {namespace}/{name} for held names", wrong(partial(may, server, attributes))
    path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
    yield f"the ConfigMap {namespace}/{name} for held names is there", wrong(partial(_there, server, path))


def labels(server: ApiServer) -> Iterator[Finding]:
    """Yield what is found where the name policy goes by labels of namespaces."""
    mend = "apply the component deploy/namespace-labels beside deploy/, or name namespaces in the policy"
    for verb in _VERBS:
        attributes = {"group": "", "resource": RESOURCE, "verb": verb, "namespace": "", "name": ""}
        what = f"may {verb} {RESOURCE} in all namespaces, for the name policy"
        yield what, wrong(partial(may, server, attributes, mend))


def _there(server: ApiServer, path: str) -> None:
    try:
        server.get(path)
    except ApiError as error:
        raise ApiError(f"no ({error}): apply deploy/, which has it") from error


def may(server: ApiServer, attributes: dict[str, str], mend: str = "") -> None:
    """Ask whether this account may do something; raise ApiError with what to do where it may not."""
    review = server.send(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
         "spec": {"resourceAttributes": attributes}},
    )  # fmt: skip
    status = review.get("status")
    if not (isinstance(status, dict) and status.get("allowed") is True):
        mend = mend or "bind the role of deploy/ to this account, or name the namespaces it may see"
        if attributes["resource"] == "services" and attributes["name"]:
            mend = "serverless models behind it are rejected; docs/kserve.md has a role, RAYPROXY_GATEWAYS the list"
        raise ApiError(f"no: {mend}")


def _crd(server: ApiServer, kind: Kind) -> None:
    try:
        server.get(f"/apis/{kind.api_version}")
    except ApiError as error:
        raise ApiError(f"no ({error}): install {kind.operator}; rayproxy waits for it") from error


def _labelled(server: ApiServer, settings: Settings, kind: Kind) -> Finding:
    """Count the objects that the selector takes, and name some of those that it leaves out."""
    selector, matches = settings.label_selector, parse_selector(settings.label_selector)
    try:
        found = [(key, matches(labels)) for key, labels in _objects(server, settings, kind)]
    except ApiError as error:
        return f"{kind.title}s are counted", str(error)
    others = [str(key) for key, taken in found if not taken]
    says = f"{len(found) - len(others)} {kind.title}s match {selector!r}"
    if not others:
        return says, None
    label = selector if _ONE_LABEL.fullmatch(selector) else "LABEL"
    names = ", ".join(others[:NAMED]) + (", ..." if len(others) > NAMED else "")
    mend = f"kubectl label -n NAMESPACE {kind.name} NAME {label.replace('==', '=')}"
    return f"{says}; {len(others)} do not and have no route ({names}); to route one: {mend}", None


def _objects(server: ApiServer, settings: Settings, kind: Kind) -> Iterator[tuple[Key, dict[str, str]]]:
    for namespace in settings.namespaces or (None,):
        token = ""
        while True:
            page = server.list(kind.routed.path(namespace), {"limit": PAGE} | ({"continue": token} if token else {}))
            for obj in page:
                try:
                    yield read_key(obj), labels_of(obj)
                except UnreadableError:
                    continue  # which the daemon reports
            token = str(page.metadata.get("continue") or "")
            if not token:
                break


def wrong(check: Callable[[], None]) -> str | None:
    """Return what is wrong, in the API server's words."""
    try:
        check()
    except ApiError as error:
        return str(error)
    return None
