"""What `rayproxy check` asks an API server where the Gateway API's words are to be said."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from rayproxy import wiring
from rayproxy.cli.cluster_checks import Finding, may, wrong
from rayproxy.gateway.objects import CLASSES, CONTROLLER, GATEWAYS, GROUP, HTTPROUTES, VERSION
from rayproxy.gateway.replicas import CONFIGMAPS, SLICES, read_ready
from rayproxy.gateway.source import Scope
from rayproxy.kinds.slices import SERVICE_NAME
from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.kube.session import CredentialsError
from rayproxy.model import Key, Resource
from rayproxy.objects import text
from rayproxy.settings import Settings

MEND = "apply the component deploy/gateway beside deploy/"
_WATCH = ("list", "watch")


def gateways(server: ApiServer, settings: Settings) -> Iterator[Finding]:
    """Yield (what was looked at, None or what is wrong)."""
    try:
        scope = wiring.gateway_scope(settings)
    except CredentialsError as error:
        yield f"the proxy's own Service {settings.replicas_service}", str(error)
        return
    yield "the Gateway API's definitions are installed", wrong(partial(_installed, server))
    for attributes in _needed(scope):
        subresource = f"/{attributes['subresource']}" if attributes["subresource"] else ""
        what = f"{attributes['resource']}{subresource} {attributes['name']}".rstrip()
        where = f"in {attributes['namespace']}" if attributes["namespace"] else "in all namespaces"
        yield f"may {attributes['verb']} {what} {where}", wrong(partial(may, server, attributes, MEND))
    if not scope.namespaces:
        yield f"the GatewayClass {scope.class_name} is this proxy's", wrong(partial(_class, server, scope))
    if scope.home and scope.configmap:
        name = f"the ConfigMap {scope.configmap} in which replicas agree is there"
        yield name, wrong(partial(_configmap, server, scope.configmap))
        yield f"the Service {scope.home} has pods that are ready", wrong(partial(_ready, server, scope.home))


def _needed(scope: Scope) -> Iterator[dict[str, str]]:
    """Yield what must be allowed, as a SelfSubjectAccessReview has it."""
    for namespace in scope.namespaces or ("",):
        for each in (GATEWAYS, HTTPROUTES):
            yield from (_attributes(each, verb, Key(namespace, "")) for verb in _WATCH)
            yield _attributes(each, "patch", Key(namespace, ""), "status")
    if not scope.namespaces:
        yield from (_attributes(CLASSES, verb, Key("", scope.class_name)) for verb in _WATCH)
        yield _attributes(CLASSES, "patch", Key("", scope.class_name), "status")
    if scope.home and scope.configmap:
        yield from (_attributes(SLICES, verb, Key(scope.home.namespace, "")) for verb in _WATCH)
        yield from (_attributes(CONFIGMAPS, verb, scope.configmap) for verb in (*_WATCH, "patch"))


def _attributes(resource: Resource[Any], verb: str, key: Key, subresource: str = "") -> dict[str, str]:
    where = {"namespace": key.namespace, "name": key.name}
    return {"group": resource.group, "resource": resource.plural, "subresource": subresource, "verb": verb} | where


def _installed(server: ApiServer) -> None:
    try:
        server.get(f"/apis/{GROUP}/{VERSION}")
    except ApiError as error:
        raise ApiError(f"no ({error}): KubeRay needs them for upgrades in steps: install the Gateway API") from error


def _class(server: ApiServer, scope: Scope) -> None:
    page = server.list(CLASSES.path(None), {"fieldSelector": f"metadata.name={scope.class_name}"})
    found = [text(obj, "spec", "controllerName") for obj in page]
    if found != [CONTROLLER]:
        said = f"its controllerName is {found[0]!r} and not {CONTROLLER}" if found else "it is not there"
        raise ApiError(f"{said}: {MEND}, or set RAYPROXY_GATEWAY_CLASS to one that is")


def _ready(server: ApiServer, key: Key) -> None:
    page = server.list(SLICES.path(key.namespace), {"labelSelector": f"{SERVICE_NAME}={key.name}"})
    if not any(map(read_ready, page)):
        raise ApiError("none now: RAYPROXY_REPLICAS_SERVICE names the Service that callers come by")


def _configmap(server: ApiServer, key: Key) -> None:
    page = server.list(CONFIGMAPS.path(key.namespace), {"fieldSelector": f"metadata.name={key.name}"})
    if not list(page):
        raise ApiError(f"no: {MEND}, or leave RAYPROXY_REPLICAS_SERVICE empty where there is one replica alone")
