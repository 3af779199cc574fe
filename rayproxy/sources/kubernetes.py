"""The Kubernetes source: one reflector for each resource and namespace, joined into a snapshot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.model import Key, Resource, Snapshot
from rayproxy.sources.base import NotSyncedError, UnconfirmedError
from rayproxy.sources.reflector import NOT_FOUND, Condition, Listed, Observer, Reflector, Timing

_Items = Mapping[Key, Any]


def listed(resource: Resource[Any], selector: str, namespace: str | None) -> Listed[Any]:
    """Say where a resource of one namespace, or of all, is listed; `selector` is the operator's."""
    chosen = selector if resource.selector is None else resource.selector
    query = {"labelSelector": chosen} if chosen else {}
    return Listed(resource.plural, resource.path(namespace), query, resource.read)


class ClusterSource:
    """What is known of a cluster's resources."""

    timing = Timing()
    watched: tuple[Path, ...] = ()

    def __init__(
        self,
        api: ApiServer,
        resources: Iterable[Resource[Any]],
        selector: str,
        namespaces: Sequence[str],
        told: tuple[Callable[[], None], Observer],
    ) -> None:
        scopes: Sequence[str | None] = tuple(dict.fromkeys(namespaces)) or (None,)
        self._reflectors: dict[Resource[Any], list[Reflector[Any]]] = {
            resource: [Reflector(api, listed(resource, selector, scope), *told, self.timing) for scope in scopes]
            for resource in resources
        }

    @property
    def threads(self) -> list[tuple[str, Callable[[], None]]]:
        """Return a name and a blocking function for each thread that the source needs."""
        return [(f"reflector-{each.resource.name}", each.run) for each in self._all()]

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
            for resource, reflectors in self._reflectors.items()
            for reflector in reflectors
            if reflector.items() is None and not (resource.custom and _absent(reflector))
        ]
        if waiting:
            raise NotSyncedError(f"no whole list yet of {', '.join(waiting)}")
        return Snapshot(
            {resource: _joined(each.items() for each in found) for resource, found in self._reflectors.items()},
            frozenset(resource for resource, found in self._reflectors.items() if any(map(_absent, found))),
            tuple(itertools.chain.from_iterable(map(_problems, self._all()))),
        )

    def confirm(self) -> Snapshot:
        """List everything again, past the watches, which take over what is found; raise UnconfirmedError."""
        found: dict[Resource[Any], list[_Items | None]] = {}
        try:
            for resource, reflectors in self._reflectors.items():
                found[resource] = [_refreshed(each, custom=resource.custom) for each in reflectors]
        except ApiError as error:
            raise UnconfirmedError(str(error)) from error
        unknown = frozenset(resource for resource, items in found.items() if None in items)
        return Snapshot({resource: _joined(items) for resource, items in found.items()}, unknown)

    def _all(self) -> list[Reflector[Any]]:
        return list(itertools.chain.from_iterable(self._reflectors.values()))


def _absent(reflector: Reflector[Any]) -> bool:
    return reflector.condition == Condition.ABSENT


def _problems(reflector: Reflector[Any]) -> tuple[str, ...]:
    if reflector.condition == Condition.SYNCED:
        return reflector.problems
    return (*reflector.problems, f"{reflector.resource.path}: {reflector.condition}; what is known goes on being used")


def _refreshed(reflector: Reflector[Any], *, custom: bool) -> _Items | None:
    """Return what a list finds now, or None where the resource itself is missing."""
    try:
        return reflector.refresh()
    except ApiError as error:
        if custom and error.status == NOT_FOUND:
            return None
        raise


def _joined(found: Iterable[_Items | None]) -> tuple[Any, ...]:
    return tuple(itertools.chain.from_iterable((items or {}).values() for items in found))
