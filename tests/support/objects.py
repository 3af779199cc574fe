"""Objects in a test's cluster: where they are, whether they are there, and which definitions hold."""

from __future__ import annotations

from typing import Any

from tests.support.apiserver import ApiProblem, Cluster
from tests.support.waiting import until

MERGE = "application/merge-patch+json"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RAYSERVICES = "/apis/ray.io/v1/namespaces/{}/rayservices"
CHECKPOINTS = "/apis/core.datatunerx.io/v1beta1/namespaces/{}/llmcheckpoints"


def there(server: Cluster, path: str) -> dict[str, Any] | None:
    """Return the object at `path`, if there is one."""
    try:
        return server.call("GET", path)
    except ApiProblem as problem:
        if problem.status == 404:
            return None
        raise


def install(server: Cluster, crd: dict[str, Any]) -> None:
    """Put a definition into the cluster in place of another of its name, and wait until it is served."""
    remove(server, crd)
    server.call("POST", DEFINITIONS, crd)
    plural, group = crd["metadata"]["name"].split(".", 1)
    path = f"/apis/{group}/{crd['spec']['versions'][0]['name']}/{plural}"
    until(f"{path} is served", lambda: there(server, path), 30)


def remove(server: Cluster, crd: dict[str, Any]) -> None:
    """Take the definition of this name away, and all its objects."""
    path = f"{DEFINITIONS}/{crd['metadata']['name']}"
    if there(server, path):
        server.call("DELETE", path)
        until(f"{path} is gone", lambda: not there(server, path), 30)
