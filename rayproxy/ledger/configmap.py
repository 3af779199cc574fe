"""Claims in a ConfigMap that all replicas share."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.ledger.base import Found, Store, StoreError
from rayproxy.ledger.entries import Change, Changes, Claims, due, read, write

MERGE_PATCH = "application/merge-patch+json"
ATTEMPTS = 5


class NoConfigMapError(StoreError):
    """Say that there is no such ConfigMap, or that it may not be used."""


class ConfigMapStore:
    """Claims in a ConfigMap, which must be there: to create one takes a permission on all of a namespace."""

    def __init__(self, api: ApiServer, namespace: str, name: str) -> None:
        self.name = f"the ConfigMap {namespace}/{name}"
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"

    def update(self, changes: Changes, latest: int) -> Found:
        """Write changes, if any, and return what is there then; raise StoreError."""
        try:
            there = self._written(changes, latest)
        except ApiError as error:
            kind = NoConfigMapError if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND) else StoreError
            raise kind(f"{self.name}: {error}") from error
        claims, problems = read(there.get("data"), latest)
        return Found(claims, tuple(f"{self.name}: {problem}" for problem in problems))

    def _written(self, changes: Changes, latest: int) -> dict[str, Any]:
        """Return the ConfigMap as it is after the changes."""
        for _ in range(ATTEMPTS):
            there = self._api.get(self._path)
            wanted = due(read(there.get("data"), latest)[0], changes)
            if not wanted:
                return there
            entries = dict(write(name, claim) for name, claim in wanted.items())
            body = {"metadata": {"resourceVersion": _version(there)}, "data": entries}
            try:
                return self._api.send("PATCH", self._path, body, content_type=MERGE_PATCH)
            except ApiError as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
        raise ApiError("others write it again and again", HTTPStatus.CONFLICT)


class SharedStore:
    """The ConfigMap where it may be used, else the state folder; what is known moves from one to the other."""

    def __init__(self, shared: ConfigMapStore, own: Store) -> None:
        self._shared = shared
        self._own = own
        self._known: Claims = {}  # what the ConfigMap held, until it went

    def update(self, changes: Changes, latest: int) -> Found:
        """Write changes, if any, and return what is there then; raise StoreError."""
        left = _added(self._own.update({}, latest).claims)
        try:
            found = self._shared.update({**left, **changes}, latest)
        except NoConfigMapError as error:
            self._own.update(_added(self._known), latest)
            own = self._own.update(changes, latest)
            self._known = {}
            words = f"names are held for this replica alone, in its state folder: {error}; apply deploy/ as it is now"
            return Found(own.claims, (words, *own.problems))
        self._own.update({name: Change(change.becomes, None) for name, change in left.items()}, latest)
        self._known = found.claims
        return found


def _added(claims: Claims) -> Changes:
    """Return the changes that add claims where there are none."""
    return {name: Change(None, claim) for name, claim in claims.items()}


def _version(obj: dict[str, Any]) -> str:
    metadata = obj.get("metadata")
    return str(metadata.get("resourceVersion") or "") if isinstance(metadata, dict) else ""
