"""Make each component from the settings: what the daemon and the commands have in common."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_settings import SettingsError

from rayproxy import kinds, policy_file
from rayproxy.gateway.proofs import Proofs
from rayproxy.gateway.source import GatewaySource, Scope
from rayproxy.gateway.speaker import Speaker
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.base import Kind
from rayproxy.kinds.grants import Grant
from rayproxy.kube.api import ApiServer, Deadlines
from rayproxy.kube.session import CredentialsError
from rayproxy.ledger.base import Store
from rayproxy.ledger.configmap import ConfigMapStore, SharedStore
from rayproxy.ledger.file import FileStore
from rayproxy.ledger.ledger import Ledger
from rayproxy.listen import kernel_has_ipv6, parse_listen
from rayproxy.model import Key, Resource
from rayproxy.name_policy import NamePolicy
from rayproxy.nginx import render, samples
from rayproxy.nginx.process import ConfigRefusedError, ManagedNginx, Nginx, NginxError
from rayproxy.nginx.render import revision_conf
from rayproxy.nginx.revisions import Revision, Revisions
from rayproxy.nginx.templates import BUILT_IN, LocationTemplate, TemplateError
from rayproxy.settings import IN_CLUSTER, Settings
from rayproxy.sources.base import Source
from rayproxy.sources.endpoints import EndpointSource
from rayproxy.sources.kubernetes import ClusterSource
from rayproxy.sources.manifests import ManifestSource
from rayproxy.sources.namespaces import NamespaceSource
from rayproxy.sources.reflector import Observer

# What a location template of the operator's own says for some models alone.
DIFFERENCES = {"StreamBody": "proxy_request_buffering off;", "Trusted": "include hidden-fields.conf;"}


def make_api(settings: Settings, deadlines: Deadlines | None = None) -> ApiServer:
    """Connect to the API server; raise CredentialsError."""
    from rayproxy.kube import login  # noqa: PLC0415 - half of the time of a start, and a folder of manifests needs none of it

    if IN_CLUSTER and not settings.kubeconfig:
        return login.connect_in_cluster(deadlines)
    try:
        return login.connect_by_kubeconfig(settings.kubeconfig, settings.context, deadlines)
    except CredentialsError as error:
        raise CredentialsError(f"{error}, or use --source manifests") from error


def make_source(settings: Settings, server: ApiServer | None, observer: Observer, wake: threading.Event) -> Source:
    """Make the source that the settings name."""
    if server is None:
        return manifests(settings)
    told = wake.set, observer
    return ClusterSource(server, resources(settings), settings.label_selector, settings.namespaces, told)


def make_endpoints(
    settings: Settings, server: ApiServer, source: Source, observe: Callable[[], Observer]
) -> EndpointSource:
    """Make what knows who answers behind a cluster's routes."""
    assert isinstance(source, ClusterSource)
    scope = settings.label_selector, settings.namespaces
    return EndpointSource(server, kinds.endpoints(chosen_kinds(settings)), scope, observe, source.find)


def manifests(settings: Settings) -> ManifestSource:
    """Make the source that reads a folder."""
    assert settings.manifests is not None
    return ManifestSource(settings.manifests, resources(settings), settings.label_selector, settings.namespaces)


def chosen_kinds(settings: Settings) -> tuple[Kind, ...]:
    """Return the kinds that are routed; raise SettingsError where one is none."""
    for name in settings.kinds:
        if name not in kinds.KINDS:
            raise SettingsError(f"RAYPROXY_KINDS: there is no kind {name!r}; there are {', '.join(kinds.KINDS)}")
    return tuple(kind for name, kind in kinds.KINDS.items() if name in settings.kinds) or kinds.DEFAULT


def resources(settings: Settings) -> tuple[Resource[Any], ...]:
    """Return what is listed and watched; raise SettingsError."""
    return kinds.resources(chosen_kinds(settings), _gateways(settings))


def _gateways(settings: Settings) -> tuple[Key, ...]:
    return tuple(Key(*text.split("/")) for text in dict.fromkeys(settings.gateways))


def make_store(settings: Settings, server: ApiServer | None) -> Store:
    """Say where claims to names are kept; raise CredentialsError."""
    own = FileStore(settings.state)
    if server is None or not settings.names_configmap:
        return own
    before = FileStore(settings.state, "names-before.json")
    return SharedStore(ConfigMapStore(server, *names_configmap(settings)), own, before)


def names_configmap(settings: Settings) -> tuple[str, str]:
    """Return namespace and name of the ConfigMap; raise CredentialsError."""
    return _at_home(settings, settings.names_configmap)


def gateway_scope(settings: Settings) -> Scope:
    """Say which Gateways are spoken for, and which replicas must agree; raise CredentialsError."""
    home = settings.replicas_service
    service = Key(*_at_home(settings, home)) if home else None
    return Scope(settings.gateway_class, settings.namespaces, settings.replica, service)


def make_speaker(settings: Settings, server: ApiServer, observer: Observer) -> tuple[Speaker, Proofs]:
    """Make what says the Gateway API's words, and what it is told by; raise CredentialsError."""
    scope, wake = gateway_scope(settings), threading.Event()
    proofs = Proofs(wake.set)
    return Speaker(server, scope, proofs, GatewaySource(server, scope, wake.set, observer), wake), proofs


def _at_home(settings: Settings, text: str) -> tuple[str, str]:
    """Return namespace and name of [NAMESPACE/]NAME; raise CredentialsError."""
    from rayproxy.kube import login  # noqa: PLC0415 - as above

    namespace, _, name = text.rpartition("/")
    if not namespace and IN_CLUSTER and not settings.kubeconfig:
        namespace = login.own_namespace()
    return namespace or login.namespace_of(settings.kubeconfig, settings.context), name


def make_ledger(settings: Settings, server: ApiServer | None, told: Callable[[], None]) -> Ledger:
    """Make what knows of held names; without a cluster it knows at once."""
    ledger = Ledger(make_store(settings, server), settings.name_hold, told)
    if server is None:
        ledger.look()
    return ledger


def make_nginx(settings: Settings, stop: threading.Event) -> Nginx:
    """Make what speaks to nginx."""
    kind = ManagedNginx if settings.nginx == "managed" else Nginx
    return kind(settings.nginx_binary, settings.state, stop, settings.reload_timeout)


def check_access_log(settings: Settings) -> None:
    """Open what nginx would log to; raise NginxError where it is this process's own and cannot be opened anew."""
    if not settings.access_log or settings.nginx != "managed":
        return
    try:
        os.close(os.open("/dev/stdout", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    except OSError as error:
        raise NginxError(
            f"RAYPROXY_ACCESS_LOG: nginx cannot open this standard output ({error.strerror}), as where it is a socket "
            "to systemd's journal: lead it to a file or a pipe (StandardOutput=append:FILE), or log no requests"
        ) from error


def make_revisions(settings: Settings, root: Path | None = None) -> Revisions:
    """Open the state folder, or make revisions for it in another one; raise OSError."""
    (settings.state / "run").mkdir(parents=True, exist_ok=True)
    return Revisions(root or settings.state, partial(revision_conf, run_dir=str(settings.state / "run")))


def make_policy(settings: Settings) -> Policy:
    """Say which Services may be backends."""
    unowned = settings.allow_unowned_services or settings.source == "manifests"
    return Policy(settings.networks, unowned, _gateways(settings))


def make_labels(
    server: ApiServer | None, told: tuple[Callable[[], None], Observer], forget: Callable[[str], None] = lambda _: None
) -> NamespaceSource | None:
    """Make what knows the labels of namespaces, of which a folder of manifests says nothing."""
    return NamespaceSource(server, told, forget) if server else None


def make_grants(settings: Settings, labels: NamespaceSource | None) -> NamePolicy:
    """Say which names and how many routes a namespace may have; raise PolicyError."""
    return NamePolicy(settings.name_policy, settings.max_routes_per_namespace, labels)


def read_grants(settings: Settings) -> tuple[Grant, ...]:
    """Return what the name policy says, nothing where there is none; raise PolicyError."""
    path = settings.name_policy
    return policy_file.parse(path, policy_file.read(path), labels=settings.source == "kubernetes") if path else ()


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
    """Try a location template on routes made up for it, all together; raise TemplateError with nginx's words."""
    _check_difference(template, "StreamBody", "STREAM_BODIES", conf.settings.stream_bodies)
    _check_difference(template, "Trusted", "TRUSTED_PAGES", conf.settings.trusted_pages)
    if template.name in BUILT_IN:
        return
    candidate = revisions.write(samples.files(template, conf), None)
    try:
        nginx.test(candidate.conf)
    except ConfigRefusedError as error:
        raise TemplateError(f"nginx refuses the location template {template.name}: {error}") from error
    finally:
        revisions.discard(candidate)


def _check_difference(template: LocationTemplate, variable: str, setting: str, names: tuple[str, ...]) -> None:
    if names and "*" not in names and not template.knows(variable):
        raise TemplateError(
            f"the location template {template.name} makes no difference for the models of RAYPROXY_{setting}: "
            f"use `prefix`, or write {{% if {variable} %}}{DIFFERENCES[variable]}{{% endif %}} into your own; "
            "* is all models, with any template"
        )
