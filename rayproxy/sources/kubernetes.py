"""The Kubernetes source: one reflector for each resource and namespace, joined into a snapshot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.model import Key, Resource, Snapshot
from rayproxy.sources.base import NotSyncedError, UnconfirmedError
from rayproxy.sources.reflector import Listed, Observer, Reflector, ReflectorConfig, SyncState

T = TypeVar("T")

_Items = Mapping[Key, Any]


def listed(resource: Resource[Any], selector: str, namespace: str | None) -> Listed[Any]:
    """Say where a resource of one namespace, or of all, is listed; `selector` is the operator's."""
    chosen = selector if resource.selector is None else resource.selector
    query = {"labelSelector": chosen} if chosen else {}
    return Listed(resource.plural, resource.path(namespace), query, resource.read)


def lists(resource: Resource[Any], selector: str, scopes: Iterable[str | None]) -> list[Listed[Any]]:
    """Say which lists make a resource whole."""
    if resource.only is None:
        return [listed(resource, selector, scope) for scope in scopes]
    queries = {key: {"fieldSelector": f"metadata.name={key.name}"} for key in resource.only}
    return [Listed("gateways", resource.path(key.namespace), query, resource.read) for key, query in queries.items()]


class ClusterSource:
    """What is known of a cluster's resources."""

    timing = ReflectorConfig()
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
            resource: [Reflector(api, each, *told, self.timing) for each in lists(resource, selector, scopes)]
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

    def find(self, resource: Resource[T], key: Key) -> T | None:
        """Return one object as it was last told, what decides nothing included."""
        found = (reflector.get(key) for reflector in self._reflectors.get(resource, ()))
        return next((each for each in found if each is not None), None)

    def snapshot(self) -> Snapshot:
        """Return what the reflectors hold; raise NotSyncedError until each had one whole list.

        A missing CRD counts as a list that is empty and perhaps wrong: nothing is routed yet, nothing is taken away.
        So does what may not be listed, where it is a gateway, or where there is another kind to route.
        """
        waiting = [
            f"{reflector.resource.path} ({reflector.condition})"
            for resource, reflectors in self._reflectors.items()
            for reflector in reflectors
            if reflector.items() is None and not self._can_do_without(resource, reflector.condition)
        ]
        if waiting:
            raise NotSyncedError(f"no whole list yet of {', '.join(waiting)}")
        return Snapshot(
            {resource: _joined(each.items() for each in found) for resource, found in self._reflectors.items()},
            frozenset(resource for resource, found in self._reflectors.items() if any(map(_unknown, found))),
            tuple(itertools.chain.from_iterable(map(self._problems, self._reflectors))),
            _unread({resource: map(_unknown, found) for resource, found in self._reflectors.items()}),
        )

    def _can_do_without(self, resource: Resource[Any], condition: SyncState) -> bool:
        if condition == SyncState.ABSENT:
            return resource.custom
        beside = resource.only is not None or (resource.custom and self._has_others(resource))
        return condition == SyncState.FORBIDDEN and beside

    def _has_others(self, resource: Resource[Any]) -> bool:
        """Tell whether something is known of another kind's objects: the operator's selector is for those alone."""
        others = (found for each, found in self._reflectors.items() if each.selector is None and each != resource)
        return any(all(each.items() is not None for each in found) for found in others)

    def _problems(self, resource: Resource[Any]) -> Iterator[str]:
        """Yield what is wrong with a resource.

        That one kind of several is not installed is nothing wrong; nor is a gateway that may not be read, where it is
        no model's: what becomes of such a model says it.
        """
        for reflector in self._reflectors[resource]:
            yield from reflector.problems
            optional = resource.only is not None or (_absent(reflector) and self._has_others(resource))
            if reflector.condition != SyncState.SYNCED and not (optional and reflector.items() is None):
                yield f"{reflector.resource.path}: {reflector.condition}; what is known goes on being used"

    def confirm(self) -> Snapshot:
        """List everything again, past the watches, which take over what is found; raise UnconfirmedError."""
        found: dict[Resource[Any], list[_Items | None]] = {}
        refused: dict[Resource[Any], ApiError] = {}
        for resource, reflectors in self._reflectors.items():
            found[resource] = []
            for each in reflectors:
                try:
                    found[resource].append(_refreshed(each, custom=resource.custom))
                except ApiError as error:
                    if error.status != HTTPStatus.FORBIDDEN or each.items() is not None:
                        raise UnconfirmedError(str(error)) from error
                    found[resource].append(None)
                    refused[resource] = error
        for resource, why in refused.items():
            if not self._can_do_without(resource, SyncState.FORBIDDEN):
                raise UnconfirmedError(str(why)) from why
        unknown = frozenset(resource for resource, items in found.items() if None in items)
        unread = _unread({resource: (each is None for each in items) for resource, items in found.items()})
        return Snapshot({resource: _joined(items) for resource, items in found.items()}, unknown, unread=unread)

    def _all(self) -> list[Reflector[Any]]:
        return list(itertools.chain.from_iterable(self._reflectors.values()))


def _absent(reflector: Reflector[Any]) -> bool:
    return reflector.condition == SyncState.ABSENT


def _refreshed(reflector: Reflector[Any], *, custom: bool) -> _Items | None:
    """Return what a list finds now, or None where the resource itself is missing."""
    try:
        return reflector.refresh()
    except ApiError as error:
        if custom and error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _unknown(reflector: Reflector[Any]) -> bool:
    return _absent(reflector) or reflector.items() is None


def _unread(unknown: Mapping[Resource[Any], Iterable[bool]]) -> frozenset[Key]:
    """Return the objects that the operator names and that are `unknown`, each by the list that is its own."""
    named = itertools.chain.from_iterable(zip(each.only or (), found, strict=False) for each, found in unknown.items())
    return frozenset(key for key, is_unknown in named if is_unknown)


def _joined(found: Iterable[_Items | None]) -> tuple[Any, ...]:
    return tuple(itertools.chain.from_iterable((items or {}).values() for items in found))
