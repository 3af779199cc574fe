"""Make the parts from the settings; what `run`, `render` and `check` have in common."""

from __future__ import annotations

import os
import stat
import threading
from functools import partial
from pathlib import Path

from rayproxy import kinds
from rayproxy.kinds.backend import Policy
from rayproxy.kube.api import ApiServer
from rayproxy.listen import kernel_has_ipv6, parse_listen
from rayproxy.nginx import render
from rayproxy.nginx.process import ConfigRefusedError, ManagedNginx, Nginx
from rayproxy.nginx.render import SAMPLE, revision_conf
from rayproxy.nginx.revisions import Revision, Revisions
from rayproxy.nginx.templates import BUILT_IN, LocationTemplate, TemplateError
from rayproxy.settings import IN_CLUSTER, Settings
from rayproxy.sources.base import Source
from rayproxy.sources.kubernetes import ClusterSource
from rayproxy.sources.manifests import ManifestSource
from rayproxy.sources.reflector import Observer


def make_api(settings: Settings) -> ApiServer:
    """Connect to the API server; raise CredentialsError."""
    from rayproxy.kube import login  # noqa: PLC0415 - half of the time of a start, and a folder of manifests needs none of it

    if IN_CLUSTER and not settings.kubeconfig:
        return login.connect_in_cluster()
    return login.connect_by_kubeconfig(settings.kubeconfig, settings.context)


def make_source(settings: Settings, server: ApiServer | None, observer: Observer, wake: threading.Event) -> Source:
    """Make the source that the settings name."""
    if server is None:
        return manifests(settings)
    told = wake.set, observer
    return ClusterSource(server, kinds.resources(), settings.label_selector, settings.namespaces, told)


def manifests(settings: Settings) -> ManifestSource:
    """Make the source that reads a folder."""
    assert settings.manifests is not None
    return ManifestSource(settings.manifests, kinds.resources(), settings.label_selector, settings.namespaces)


def make_nginx(settings: Settings, stop: threading.Event) -> Nginx:
    """Make what speaks to nginx."""
    kind = ManagedNginx if settings.nginx == "managed" else Nginx
    return kind(settings.nginx_binary, settings.state, stop, settings.reload_timeout)


def make_revisions(settings: Settings) -> Revisions:
    """Open the state folder; raise OSError."""
    (settings.state / "run").mkdir(parents=True, exist_ok=True)
    return Revisions(settings.state, partial(revision_conf, run_dir=str(settings.state / "run")))


def make_policy(settings: Settings) -> Policy:
    """Say which Services may be backends."""
    unowned = settings.allow_unowned_services or settings.source == "manifests"
    return Policy(settings.networks, unowned)


def nginx_conf(settings: Settings) -> render.NginxConf:
    """Gather what nginx.conf is rendered from."""
    run_dir = settings.state / "run"
    listen = parse_listen(settings.listen).for_nginx(ipv6=kernel_has_ipv6())
    return render.NginxConf(settings.for_nginx, listen, str(run_dir), _worker_user(run_dir))


def _worker_user(run_dir: Path) -> str:
    """Return "root" where root starts nginx in a folder that nginx's own user cannot enter, else its default.

    Workers keep large request bodies in that folder; a checkout below /root is the usual case.
    """
    if os.geteuid() != 0:
        return ""
    folders = [folder for folder in (run_dir, *run_dir.parents) if folder.exists()]
    reachable = all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)
    return "" if reachable else "root"


def first_revision(revisions: Revisions, settings: Settings) -> Revision:
    """Return the last good revision, made current; on a new disk one without routes, so that nginx can start."""
    if recovered := revisions.recover():
        return recovered
    empty = revisions.write(render.empty(nginx_conf(settings)), None)
    revisions.activate(empty)
    return empty


def check_template(template: LocationTemplate, revisions: Revisions, nginx: Nginx, conf: render.NginxConf) -> None:
    """Try a location template on a route made up for it; raise TemplateError with nginx's words."""
    streamed = conf.settings.stream_bodies
    named = streamed and "*" not in streamed
    if named and not template.can_stream_bodies:
        raise TemplateError(
            f"the location template {template.name} makes no difference for the models of RAYPROXY_STREAM_BODIES: "
            "use `prefix`, or write {% if StreamBody %}proxy_request_buffering off;{% endif %} into your own; "
            "* streams the bodies of all, with any template"
        )
    if template.name in BUILT_IN:
        return
    candidate = revisions.write(render.render([SAMPLE], template, conf), None)
    try:
        nginx.test(candidate.conf)
    except ConfigRefusedError as error:
        raise TemplateError(f"nginx refuses the location template {template.name}: {error}") from error
    finally:
        revisions.discard(candidate)
