"""The Kubernetes source: one reflector for each resource and namespace, joined into a snapshot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from rayproxy.api import ApiError, ApiServer
from rayproxy.model import Key, RayService, Service, Snapshot
from rayproxy.objects import SERVE_LABEL, read_rayservice, read_service
from rayproxy.reflector import NOT_FOUND, Condition, Observer, Reflector, Resource, Timing
from rayproxy.source import NotSyncedError, UnconfirmedError


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

    timing = Timing()

    def __init__(
        self,
        api: ApiServer,
        selector: str,
        namespaces: Sequence[str],
        observer: Observer,
        wake: Callable[[], None],
    ) -> None:
        scopes: Sequence[str | None] = tuple(dict.fromkeys(namespaces)) or (None,)
        told = wake, observer, self.timing
        self._rayservices = [Reflector(api, rayservices(selector, scope), *told) for scope in scopes]
        self._services = [Reflector(api, services(scope), *told) for scope in scopes]

    @property
    def loops(self) -> list[tuple[str, Callable[[], None]]]:
        """Return a name and a blocking function for each thread that the source needs."""
        return [(f"reflector-{r.resource.name}", r.run) for r in self._all()]

    def stop(self) -> None:
        """Let the reflectors end at their next turn."""
        for reflector in self._all():
            reflector.stop()

    def snapshot(self) -> Snapshot:
        """Return what the reflectors hold; raise NotSyncedError until each had one whole list.

        A missing CRD counts as a list that is empty and perhaps wrong: nothing is routed yet, nothing is taken away.
        """
        waiting = [
            f"{reflector.resource.path} ({reflector.condition})"
            for reflector in self._all()
            if reflector.items() is None and not (reflector in self._rayservices and _absent(reflector))
        ]
        if waiting:
            raise NotSyncedError(f"no whole list yet of {', '.join(waiting)}")
        return _join(
            [reflector.items() or {} for reflector in self._rayservices],
            [reflector.items() or {} for reflector in self._services],
            known=not any(map(_absent, self._rayservices)),
            problems=tuple(itertools.chain.from_iterable(map(_problems, self._all()))),
        )

    def confirm(self) -> Snapshot:
        """List everything again, past the watches, which take over what is found; raise UnconfirmedError."""
        try:
            rayservices = [_refreshed(reflector) for reflector in self._rayservices]
            services = [reflector.refresh() for reflector in self._services]
        except ApiError as error:
            raise UnconfirmedError(str(error)) from error
        return _join([items or {} for items in rayservices], services, known=None not in rayservices)

    def _all(self) -> list[Reflector[Any]]:
        return [*self._rayservices, *self._services]


def _absent(reflector: Reflector[Any]) -> bool:
    return reflector.condition == Condition.ABSENT


def _problems(reflector: Reflector[Any]) -> tuple[str, ...]:
    if reflector.condition == Condition.SYNCED:
        return reflector.problems
    return (*reflector.problems, f"{reflector.resource.path}: {reflector.condition}; what is known goes on being used")


def _refreshed(reflector: Reflector[RayService]) -> dict[Key, RayService] | None:
    """Return what a list finds now, or None where the resource itself is missing."""
    try:
        return reflector.refresh()
    except ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise


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
