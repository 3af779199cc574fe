"""What `rayproxy check` looks at. Each check returns None, or what is wrong and what to do."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

from rayproxy import wiring
from rayproxy.cli.cluster_checks import Finding, labels, permissions
from rayproxy.cli.gateway_checks import gateways
from rayproxy.kube.api import PATIENT, ApiError, ApiServer
from rayproxy.kube.session import CredentialsError
from rayproxy.nginx import render
from rayproxy.nginx.process import NginxError
from rayproxy.nginx.revisions import Revisions
from rayproxy.nginx.templates import TemplateError, load_location
from rayproxy.policy_file import PolicyError
from rayproxy.settings import Settings, misspelt
from rayproxy.sources.base import NotSyncedError


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Yield (what was looked at, None or what is wrong)."""
    yield f"settings: nginx listens on {_addresses(settings)}", None
    for variable, setting in misspelt().items():
        yield f"variable {variable}", f"is no setting, so nothing comes of it: is {setting} meant?"
    yield f"state folder {settings.state}", _state(settings)
    yield f"nginx binary {settings.nginx_binary} takes the configuration", _nginx(settings)
    if settings.access_log:
        yield "access log", _caught(lambda: wiring.check_access_log(settings))
    yield f"location template {settings.template}{_not_for(settings)}", _caught(lambda: _template(settings))
    if settings.name_policy:
        yield f"name policy {settings.name_policy}", _caught(lambda: _policy(settings))
    if settings.source == "manifests":
        yield _manifests(settings)
        return
    try:
        server = wiring.make_api(settings, PATIENT)
    except (CredentialsError, OSError) as error:
        yield "login to the API server", str(error)
        return
    refused = _login(server)
    yield "login to the API server", refused
    if refused:
        return  # every other answer would be the same
    yield from permissions(server, settings)
    if _goes_by_labels(settings):
        yield from labels(server)
    if settings.gateway_class:
        yield from gateways(server, settings)


def _login(server: ApiServer) -> str | None:
    """Say why nothing can be asked: nobody answers, or the login is refused."""
    try:
        server.get("/version")
    except ApiError as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            return f"it is refused ({error}): the token or certificate has expired, or is another cluster's: renew it"
        if error.status == 0:
            return f"no answer ({error}): is the address right, and may this machine or pod reach it?"
    return None


def _addresses(settings: Settings) -> str:
    return " and ".join(address.split()[0] for address in wiring.nginx_conf(settings).listen)


def _state(settings: Settings) -> str | None:
    try:
        wiring.make_revisions(settings)
        probe = settings.state / f".check-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        return f"cannot be written ({error.strerror}): mend it, or choose another with RAYPROXY_STATE_DIR"
    return None


def _nginx(settings: Settings) -> str | None:
    nginx = wiring.make_nginx(settings, threading.Event())
    try:
        with _apart(settings) as revisions:
            nginx.test(revisions.write(render.empty(wiring.nginx_conf(settings)), None).conf)
    except (NginxError, OSError) as error:
        return str(error)
    return None


def _template(settings: Settings) -> None:
    template = load_location(settings.template)
    nginx = wiring.make_nginx(settings, threading.Event())
    with _apart(settings) as revisions:
        wiring.check_template(template, revisions, nginx, wiring.nginx_conf(settings))


@contextlib.contextmanager
def _apart(settings: Settings) -> Iterator[Revisions]:
    """Hold revisions for what is tried: a daemon that runs keeps and prunes its own. Raise OSError."""
    with tempfile.TemporaryDirectory(prefix=".check-", dir=settings.state) as folder:
        yield wiring.make_revisions(settings, Path(folder))


def _policy(settings: Settings) -> None:
    wiring.read_grants(settings)


def _goes_by_labels(settings: Settings) -> bool:
    try:
        return any(grant.matches for grant in wiring.read_grants(settings))
    except PolicyError:  # which is told by itself
        return False


def _not_for(settings: Settings) -> str:
    """Say which routes get the template `prefix` instead."""
    try:
        template = load_location(settings.template)
    except TemplateError:
        return ""  # which is told by itself
    if not template.knows("Kind"):
        return " (without {{ Kind }}, so for RayServices alone: others get prefix)"
    return "" if template.knows("Host") else " (without {{ Host }}, so not for serverless models: they get prefix)"


def _manifests(settings: Settings) -> Finding:
    source = wiring.manifests(settings)
    try:
        snapshot = source.snapshot()
    except NotSyncedError as error:
        return "manifests folder", str(error)
    return f"manifests folder {settings.manifests} holds {source.summary()}", "; ".join(snapshot.problems) or None


def _caught(check: Callable[[], None]) -> str | None:
    try:
        check()
    except (ApiError, TemplateError, PolicyError, NginxError, OSError) as error:
        return str(error)
    return None
