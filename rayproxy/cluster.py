"""The Kubernetes source: one reflector for each resource and namespace, joined into a snapshot."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rayproxy.api import ApiError, ApiServer
from rayproxy.model import Key, RayService, Service, Snapshot
from rayproxy.objects import SERVE_LABEL, read_rayservice, read_service
from rayproxy.reflector import NOT_FOUND, Condition, Observer, Reflector, Resource
from rayproxy.source import NotSyncedError, UnconfirmedError

_T = TypeVar("_T")


def rayservices(selector: str, namespace: str | None) -> Resource[RayService]:
    """Say where the RayServices of one namespace, or of all, are listed."""
    path = "/apis/ray.io/v1" + (f"/namespaces/{namespace}" if namespace else "") + "/rayservices"
    return Resource("rayservices", path, {"labelSelector": selector} if selector else {}, read_rayservice)


def services(namespace: str | None) -> Resource[Service]:
    """Say where the serve Services of one namespace, or of all, are listed: those with the label key ray.io/serve."""
    path = "/api/v1" + (f"/namespaces/{namespace}" if namespace else "") + "/services"
    return Resource("services", path, {"labelSelector": SERVE_LABEL}, read_service)


class ClusterSource:
    """Know the RayServices and serve Services of a cluster."""

    def __init__(
        self,
        api: ApiServer,
        selector: str,
        namespaces: Sequence[str],
        observer: Observer,
        wake: Callable[[], None],
    ) -> None:
        self._stop = threading.Event()
        scopes: Sequence[str | None] = namespaces or (None,)
        self._rayservices = [
            Reflector(api, rayservices(selector, scope), wake, observer, self._stop) for scope in scopes
        ]
        self._services = [Reflector(api, services(scope), wake, observer, self._stop) for scope in scopes]

    @property
    def loops(self) -> list[tuple[str, Callable[[], None]]]:
        """Return a name and a blocking function for each thread that the source needs."""
        return [(f"reflector-{r.resource.name}", r.run) for r in self._all()]

    @property
    def conditions(self) -> dict[str, Condition]:
        """Return the worst condition of each resource."""
        worst: dict[str, Condition] = {}
        for reflector in self._all():
            if worst.get(reflector.resource.name, Condition.SYNCED) == Condition.SYNCED:
                worst[reflector.resource.name] = reflector.condition
        return worst

    def stop(self) -> None:
        """Let the reflectors end at their next turn."""
        self._stop.set()

    def snapshot(self) -> Snapshot:
        """Return what the reflectors hold; raise NotSyncedError until each had one whole list.

        A missing CRD counts as a list that is empty and perhaps wrong: nothing is routed yet, nothing is taken away.
        """
        absent = any(reflector.condition == Condition.ABSENT for reflector in self._rayservices)
        waiting = [
            f"{reflector.resource.path} ({reflector.condition})"
            for reflector in self._all()
            if reflector.items() is None and reflector.condition != Condition.ABSENT
        ]
        if waiting:
            raise NotSyncedError(f"no whole list yet of {', '.join(waiting)}")
        return _join(
            [reflector.items() or {} for reflector in self._rayservices],
            [reflector.items() or {} for reflector in self._services],
            known=not absent,
            problems=tuple(text for reflector in self._all() for text in reflector.problems.values()),
        )

    def confirm(self) -> Snapshot:
        """List everything again, past the watches; where they had told less, they list again too."""
        rayservices, services = [self._fetch(r) for r in self._rayservices], [self._fetch(s) for s in self._services]
        return _join(
            [items or {} for items in rayservices], [items or {} for items in services], known=None not in rayservices
        )

    def _fetch(self, reflector: Reflector[_T]) -> dict[Key, _T] | None:
        """Return what a list finds now, or None where the resource itself is missing."""
        try:
            items, _ = reflector.fetch()
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise UnconfirmedError(str(error)) from error
        if items != reflector.items():
            reflector.relist_soon()
        return items

    def _all(self) -> list[Reflector[Any]]:
        return [*self._rayservices, *self._services]


def _join(
    rayservice_items: Sequence[dict[Any, RayService]],
    service_items: Sequence[dict[Any, Service]],
    *,
    known: bool,
    problems: tuple[str, ...] = (),
) -> Snapshot:
    return Snapshot(
        tuple(itertools.chain.from_iterable(items.values() for items in rayservice_items)),
        tuple(itertools.chain.from_iterable(items.values() for items in service_items)),
        rayservices_known=known,
        problems=problems,
    )
