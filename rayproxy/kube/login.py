"""Read address, CA and token as the `kubernetes` package does, from a pod's service account or a kubeconfig.

Imported only where a cluster is spoken to: that package is half of the daemon's start.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from kubernetes import client
from kubernetes.client.rest import should_bypass_proxies
from kubernetes.config import ConfigException, incluster_config
from kubernetes.config.kube_config import KubeConfigLoader

from rayproxy.kube import kubeconfig
from rayproxy.kube.api import ApiServer, Deadlines
from rayproxy.kube.login_program import LoginProgramError
from rayproxy.kube.session import CredentialsError, Login

IN_CLUSTER_REFRESH = 60.0  # s; kubelet rotates a projected token long before it expires
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
KUBECONFIG_REFRESH = 600.0  # s; a login program may be slow
RENEWAL_LIMIT = 60.0  # s; for a login program that is asked again: a thread waits, and has a login that may be good
NO_PROXY = "localhost,127.0.0.0/8,::1"  # this machine itself: kubectl asks no proxy for it, whatever NO_PROXY says


class NoKubeconfigError(CredentialsError):
    """Say that there is no kubeconfig."""


def connect_in_cluster(deadlines: Deadlines | None = None) -> ApiServer:
    """Connect with the pod's service account; raise CredentialsError."""
    return ApiServer(in_cluster, IN_CLUSTER_REFRESH, deadlines)


def connect_by_kubeconfig(path: str | None, context: str | None, deadlines: Deadlines | None = None) -> ApiServer:
    """Connect with a kubeconfig (default: KUBECONFIG, then ~/.kube/config) and its context; raise CredentialsError."""
    load = partial(from_kubeconfig, path, context)
    return ApiServer(load, KUBECONFIG_REFRESH, deadlines, again=partial(load, RENEWAL_LIMIT))


def in_cluster() -> Login:
    """Read the pod's service account; raise CredentialsError."""
    configuration = client.Configuration(proxy="")
    try:
        incluster_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        return _login(configuration)
    except (ConfigException, OSError, ValueError) as error:
        raise CredentialsError(f"not inside a pod with a service account token: {error}") from error


def from_kubeconfig(path: str | None, context: str | None, limit: float | None = None) -> Login:
    """Read a kubeconfig (default: KUBECONFIG, then ~/.kube/config) and its context; raise CredentialsError.

    Its login program has `limit` seconds, where it may ask nobody.
    """
    configuration = client.Configuration(proxy="")
    try:
        read = kubeconfig.read(path, context)
        read.check_cluster()
        impersonation = read.impersonation
        read.log_in(limit)
        read.complete_server()
        KubeConfigLoader(read.merged, read.context, config_base_path=None).load_and_set(configuration)  # type: ignore[no-untyped-call]
        return replace(_login(configuration), impersonation=impersonation)
    except Exception as error:  # a file that is being written raises whatever the parsers and login programs do
        raise _unusable(path, error) from error


def own_namespace() -> str:
    """Return the namespace of the pod that this runs in; raise CredentialsError."""
    try:
        return OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CredentialsError(
            f"the pod's own namespace is not known ({error}): mount the token as deploy/ does, or write "
            "NAMESPACE/NAME in RAYPROXY_NAMES_CONFIGMAP and RAYPROXY_REPLICAS_SERVICE"
        ) from error


def namespace_of(path: str | None, context: str | None) -> str:
    """Return the namespace that a kubeconfig's context names, else "default"; raise CredentialsError."""
    try:
        return kubeconfig.read(path, context).namespace
    except Exception as error:  # as above
        raise _unusable(path, error) from error


def _unusable(path: str | None, error: Exception) -> CredentialsError:
    kind = NoKubeconfigError if isinstance(error, kubeconfig.NoKubeconfigError) else CredentialsError
    words = str(error).rstrip(".")
    what = "Mend that, or set" if isinstance(error, LoginProgramError) else "Set"
    return kind(
        f"the kubeconfig {kubeconfig.location(path)} cannot be used: {words}. {what} KUBECONFIG or --kubeconfig"
    )


def _login(configuration: client.Configuration) -> Login:
    authorization = (configuration.get_api_key_with_prefix("BearerToken") or "").strip()
    if not re.fullmatch(r"[\x20-\x7e]*", authorization):
        raise CredentialsError("the token holds a character that no HTTP header may have")
    if authorization.lower() == "bearer":  # the token file held nothing but space
        authorization = ""
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    ca, certificate, key = (Path(file).read_bytes() if file else b"" for file in files)
    return Login(
        configuration.host.rstrip("/"),
        authorization,
        (ca, certificate, key, bool(configuration.verify_ssl), configuration.tls_server_name or ""),
        (configuration.cert_file, configuration.key_file) if configuration.cert_file else None,
        configuration.proxy or _environments_proxy(configuration.host),
    )


def _environments_proxy(host: str) -> str:
    """Return the proxy that the environment names for a server, as kubectl reads it; a kubeconfig's own goes first.

    The `kubernetes` package leaves NO_PROXY to its own requests, and takes ALL_PROXY, which kubectl does not.
    """
    found = getproxies()
    proxy = found.get(urlsplit(host).scheme, "")
    named = (re.sub(r"^\*(?=\.)", "", each.strip()) for each in found.get("no", "").split(","))  # *.corp is .corp
    if not proxy or should_bypass_proxies(host, ",".join((NO_PROXY, *named))):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"
