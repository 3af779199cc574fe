"""What `rayproxy deploy` reads from the cluster and writes to it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from rayproxy.checkpoint.ownership import MANAGER, made_by_rayproxy, managers
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.kube.api import ApiError, ApiServer

Object = dict[str, Any]

_RAYSERVICES = "/apis/ray.io/v1/namespaces/{}/rayservices"
_CHECKPOINTS = "/apis/core.datatunerx.io/v1beta1/namespaces/{}/llmcheckpoints"
_DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayservices.ray.io"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML


class Cluster:
    """Read and write the objects that a served checkpoint consists of, in one namespace."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    def llm_checkpoint(self, name: str) -> Object:
        """Return the LLMCheckpoint `name`."""
        found = self._get(f"{_CHECKPOINTS.format(self.namespace)}/{name}")
        if found is None:
            raise RefusedError(
                f"there is no LLMCheckpoint {name} in namespace {self.namespace}: "
                f"'kubectl get llmcheckpoints -n {self.namespace}' lists those there are"
            )
        return found

    def definition(self) -> Object | None:
        """Return the definition of RayService, or None where we may not read it."""
        try:
            found = self._get(_DEFINITION)
        except ApiError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                return None
            raise
        if found is None:
            raise RefusedError("the cluster has no RayService: install KubeRay first")
        return found

    def rayservice(self, name: str) -> Object | None:
        """Return the RayService `name`, if there is one."""
        return self._get(f"{_RAYSERVICES.format(self.namespace)}/{name}")

    def service(self, name: str) -> Object | None:
        """Return the Service `name`, if there is one."""
        return self._get(f"/api/v1/namespaces/{self.namespace}/services/{name}")

    def pods(self, ray_cluster: str) -> list[Object]:
        """Return the Pods of a RayCluster; none where we may not list them."""
        return self._list("pods", {"labelSelector": f"ray.io/cluster={ray_cluster}"})

    def events(self, name: str) -> list[Object]:
        """Return the Events about objects called `name`; none where we may not list them."""
        return self._list("events", {"fieldSelector": f"involvedObject.name={name}"})

    def patch(self, manifest: Object, *, force: bool, dry_run: bool = False) -> Object:
        """Apply a RayService as field manager `rayproxy`, or only return what would come of it; raise ApiError."""
        path = f"{_RAYSERVICES.format(self.namespace)}/{manifest['metadata']['name']}"
        how = {"dryRun": "All"} if dry_run else {"fieldValidation": "Strict"}
        query = {"fieldManager": MANAGER, "force": str(force).lower(), **how}
        return self._api.send("PATCH", path, manifest, query, _APPLY)

    def delete(self, name: str, *, force: bool) -> None:
        """Delete the RayService `name`; refuse what others made, unless forced."""
        found = self.rayservice(name)
        if found is None:
            raise RefusedError(f"there is no RayService {name} in namespace {self.namespace}")
        if not force and not made_by_rayproxy(found):
            raise RefusedError(
                f"RayService {name} was made by {managers(found)}, not by rayproxy: delete it with --force"
            )
        # Never another object of the same name that came in between.
        options = {"propagationPolicy": "Background", "preconditions": {"uid": found["metadata"]["uid"]}}
        self._api.send("DELETE", f"{_RAYSERVICES.format(self.namespace)}/{name}", options)

    def _get(self, path: str) -> Object | None:
        try:
            return self._api.get(path)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _list(self, resource: str, query: Mapping[str, str]) -> list[Object]:
        try:
            answer = self._api.get(f"/api/v1/namespaces/{self.namespace}/{resource}", query)
        except ApiError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                return []
            raise
        items: list[Object] = answer.get("items") or []
        return items
