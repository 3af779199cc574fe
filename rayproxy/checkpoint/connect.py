"""Which cluster the commands speak to, and in which namespace."""

from __future__ import annotations

from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.kube.api import PATIENT, ApiServer
from rayproxy.kube.session import CredentialsError


def connect(kubeconfig: str | None, context: str | None) -> tuple[ApiServer, str]:
    """Return the API server and the namespace that a kubeconfig names, else those of the pod we run in.

    One that cannot be used is an error there as well, as with kubectl: the pod's may be another cluster.
    """
    from rayproxy.kube import login  # noqa: PLC0415 - half of the time of a start, and the other commands need none of it

    try:
        return login.connect_by_kubeconfig(kubeconfig, context, PATIENT), login.namespace_of(kubeconfig, context)
    except CredentialsError as error:
        absent = isinstance(error, login.NoKubeconfigError)
        if not absent or kubeconfig or context or not login.OWN_NAMESPACE.exists():
            raise RefusedError(f"no cluster to speak to: {error}") from error
    return login.connect_in_cluster(PATIENT), login.own_namespace()
