"""Objects in a test's cluster: look at them, wait for them, put definitions in."""

from __future__ import annotations

import time

from rayproxy.api import ApiError

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RAYSERVICES = "/apis/ray.io/v1/namespaces/{}/rayservices"
CHECKPOINTS = "/apis/core.datatunerx.io/v1beta1/namespaces/{}/llmcheckpoints"


def install(server, crds):
    """Put definitions into the cluster in place of others of their names; wait until they are served."""
    for crd in crds:
        path = f"{CRDS}/{crd['metadata']['name']}"
        if there(server, path):
            server.send("DELETE", path, {})
            until(lambda path=path: not there(server, path))
        server.send("POST", CRDS, crd)
        until(lambda path=path: established(server.get(path)))
        # Established comes a moment before the first request is answered.
        plural, group = crd["metadata"]["name"].split(".", 1)
        version = crd["spec"]["versions"][0]["name"]
        until(lambda path=f"/apis/{group}/{version}/{plural}": there(server, path))


def there(server, path):
    try:
        return server.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def established(crd):
    conditions = crd.get("status", {}).get("conditions") or []
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def until(look, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return found
