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


class GoneConfigMapError(NoConfigMapError):
    """Say that there is no such ConfigMap."""


_ERRORS: dict[int, type[StoreError]] = {
    HTTPStatus.FORBIDDEN: NoConfigMapError,
    HTTPStatus.NOT_FOUND: GoneConfigMapError,
}


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
            raise _ERRORS.get(error.status, StoreError)(f"{self.name}: {error}") from error
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
    """The ConfigMap where it may be used, else the state folder; what is known moves from one to the other.

    `before` is what the ConfigMap held when this replica began to be alone, as long as it is: a ConfigMap may be read
    and not written, and only what differs from that is this replica's own word, a claim that it took away included.
    """

    def __init__(self, shared: ConfigMapStore, own: Store, before: Store) -> None:
        self._shared = shared
        self._own = own
        self._before = before
        self._known: Claims = {}  # what the ConfigMap held, until it could not be used

    def update(self, changes: Changes, latest: int) -> Found:
        """Write changes, if any, and return what is there then; raise StoreError."""
        own, before = self._own.update({}, latest), self._before.update({}, latest)
        alone = bool(own.claims or before.claims)
        problems = own.problems + before.problems
        if alone:  # the changes build on what is here
            own = self._own.update(changes, latest)
        try:
            found = self._shared.update(_differences(before.claims, own.claims) if alone else changes, latest)
        except NoConfigMapError as error:
            if not alone:
                self._part(changes, latest)
            if isinstance(error, GoneConfigMapError):  # the next one will hold nothing
                self._clear(self._before, latest)
            words = f"names are held for this replica alone, in its state folder: {error}; apply deploy/ as it is now"
            return Found(self._own.update({}, latest).claims, (words, *problems))
        except StoreError as error:
            raise StoreError("; ".join((str(error), *problems))) from error
        # in this order: what is in `own` alone is written where there is nothing, whatever ends the process between
        self._clear(self._before, latest)
        self._own.update(_differences(own.claims, {}), latest)
        self._known = found.claims
        return Found(found.claims, found.problems + problems)

    def _part(self, changes: Changes, latest: int) -> None:
        """Go on alone from what the ConfigMap held; in the opposite order to that of coming together."""
        known = _differences({}, self._known)
        self._own.update(known, latest)
        self._before.update(known, latest)
        self._own.update(changes, latest)
        self._known = {}

    @staticmethod
    def _clear(store: Store, latest: int) -> None:
        store.update(_differences(store.update({}, latest).claims, {}), latest)


def _differences(before: Claims, after: Claims) -> Changes:
    """Return the changes that lead from some claims to others."""
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return {name: Change(before.get(name), after.get(name)) for name in names}


def _version(obj: dict[str, Any]) -> str:
    metadata = obj.get("metadata")
    return str(metadata.get("resourceVersion") or "") if isinstance(metadata, dict) else ""
