"""What `rayproxy check` looks at. Each check returns None, or what is wrong and what to do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial

from rayproxy import kinds, parts
from rayproxy.kinds.base import Kind
from rayproxy.kube.api import ApiError, ApiServer, CredentialsError
from rayproxy.nginx import render
from rayproxy.nginx.process import NginxError
from rayproxy.nginx.templates import TemplateError, load_location
from rayproxy.settings import Settings
from rayproxy.sources.base import NotSyncedError

Finding = tuple[str, str | None]


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Yield (what was looked at, None or what is wrong)."""
    yield f"settings: nginx listens on {_addresses(settings)}", None
    yield f"state folder {settings.state}", _state(settings)
    yield f"nginx binary {settings.nginx_binary} takes the configuration", _nginx(settings)
    yield f"location template {settings.template}", _caught(lambda: _template(settings))
    if settings.source == "manifests":
        yield _manifests(settings)
        return
    try:
        server = parts.make_api(settings)
    except (CredentialsError, OSError) as error:
        yield "login to the API server", str(error)
        return
    yield "login to the API server", None
    yield from _permissions(server, settings)


def _addresses(settings: Settings) -> str:
    return " and ".join(address.split()[0] for address in parts.nginx_conf(settings).listen)


def _state(settings: Settings) -> str | None:
    try:
        parts.make_revisions(settings)
        probe = settings.state / f".check-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        return f"cannot be written ({error.strerror}): mend it, or choose another with RAYPROXY_STATE_DIR"
    return None


def _nginx(settings: Settings) -> str | None:
    nginx = parts.make_nginx(settings, threading.Event())
    try:
        revisions = parts.make_revisions(settings)
        candidate = revisions.write(render.empty(parts.nginx_conf(settings)), None)
        try:
            nginx.test(candidate.conf)
        finally:
            revisions.discard(candidate)
    except (NginxError, OSError) as error:
        return str(error)
    return None


def _template(settings: Settings) -> None:
    template = load_location(settings.template)
    nginx = parts.make_nginx(settings, threading.Event())
    parts.check_template(template, parts.make_revisions(settings), nginx, parts.nginx_conf(settings))


def _manifests(settings: Settings) -> Finding:
    source = parts.manifests(settings)
    folder = f"manifests folder {settings.manifests}"
    try:
        snapshot = source.snapshot()
    except NotSyncedError as error:
        return folder, str(error)
    return f"{folder} holds {source.summary()}", "; ".join(snapshot.problems) or None


def _permissions(server: ApiServer, settings: Settings) -> Iterator[Finding]:
    needed = [(each.group, each.plural, verb) for each in kinds.resources() for verb in ("list", "watch")]
    needed += [("", "events", "create")] if settings.events else []
    for namespace in settings.namespaces or ("",):
        where = f"in {namespace}" if namespace else "in all namespaces"
        for group, resource, verb in needed:
            attributes = {"group": group, "resource": resource, "verb": verb, "namespace": namespace}
            yield f"may {verb} {resource} {where}", _caught(partial(_may, server, attributes))
    for kind in kinds.KINDS.values():
        yield f"the {kind.routed.kind} CRD is installed", _caught(partial(_crd, server, kind))


def _may(server: ApiServer, attributes: dict[str, str]) -> None:
    review = server.send(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
         "spec": {"resourceAttributes": attributes}},
    )  # fmt: skip
    status = review.get("status")
    if not (isinstance(status, dict) and status.get("allowed") is True):
        raise ApiError("no: bind the role of deploy/ to this account, or name the namespaces it may see")


def _crd(server: ApiServer, kind: Kind) -> None:
    try:
        server.get(f"/apis/{kind.api_version}")
    except ApiError as error:
        raise ApiError(f"no ({error}): install {kind.operator}; rayproxy waits for it") from error


def _caught(check: Callable[[], None]) -> str | None:
    try:
        check()
    except (ApiError, TemplateError, NginxError, OSError) as error:
        return str(error)
    return None
