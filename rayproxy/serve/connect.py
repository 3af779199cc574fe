"""Which cluster the commands speak to, and in which namespace."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kubernetes.config import kube_config

from rayproxy.api import (
    IN_CLUSTER_REFRESH,
    KUBECONFIG_REFRESH,
    ApiServer,
    CredentialsError,
    from_kubeconfig,
    in_cluster,
)
from rayproxy.serve.refusal import RefusedError

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(kubeconfig: str | None, context: str | None) -> tuple[ApiServer, str]:
    """Return the API server and the namespace that a kubeconfig names, else those of the pod we run in."""
    try:
        api = ApiServer(partial(from_kubeconfig, kubeconfig, context), KUBECONFIG_REFRESH)
        return api, _namespace_of(kubeconfig, context)
    except CredentialsError as error:
        if kubeconfig or context or not _POD_NAMESPACE.exists():
            raise RefusedError(f"no cluster to speak to: {error}") from error
    return ApiServer(in_cluster, IN_CLUSTER_REFRESH), _POD_NAMESPACE.read_text(encoding="utf-8").strip()


def _namespace_of(kubeconfig: str | None, context: str | None) -> str:
    files = kube_config.KubeConfigMerger(kubeconfig or kube_config.KUBE_CONFIG_DEFAULT_LOCATION)  # type: ignore[no-untyped-call]
    chosen = files.config["contexts"].get_with_name(context or files.config["current-context"])
    return str(chosen["context"].safe_get("namespace") or "default")
