"""What is watched of a cluster to speak for Gateways: their API's objects, and the other replicas of the proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rayproxy.gateway.objects import CLASSES, CONTROLLER, GATEWAYS, HTTPROUTES, Gateway, GatewayClass, HTTPRoute
from rayproxy.gateway.replicas import CONFIGMAPS, SLICES, Entries
from rayproxy.kinds.slices import SERVICE_NAME
from rayproxy.kube.api import ApiServer
from rayproxy.model import Key, Resource
from rayproxy.sources.kubernetes import listed
from rayproxy.sources.reflector import Listed, Observer, Reflector, ReflectorConfig, SyncState

T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """Which Gateways are spoken for, and for whom.

    `home` is the proxy's own Service, None where the daemon is alone; `namespaces` are those watched, all where empty:
    the GatewayClass, which is in none, is looked at only then.
    """

    class_name: str
    namespaces: tuple[str, ...]
    me: str
    home: Key | None

    @property
    def configmap(self) -> Key | None:
        """Return the ConfigMap in which the replicas tell each other what they have proven."""
        return self.home and Key(self.home.namespace, f"{self.home.name}-replicas")


@dataclass(frozen=True)
class Known:
    """All that is known at a moment."""

    classes: tuple[GatewayClass, ...]
    gateways: Mapping[Key, Gateway]
    httproutes: tuple[HTTPRoute, ...]
    ready: frozenset[str]
    entries: Entries

    def of_class(self, name: str) -> Mapping[Key, Gateway]:
        """Return the Gateways to speak for: those of the class, unless that is another controller's."""
        if any(each.key.name == name and each.controller != CONTROLLER for each in self.classes):
            return {}
        return {key: each for key, each in self.gateways.items() if each.class_name == name and not each.terminating}


class GatewaySource:
    """What is known of the objects of the Gateway API and of the other replicas: the reflectors together."""

    timing = ReflectorConfig()

    def __init__(self, api: ApiServer, scope: Scope, wake: Callable[[], None], observer: Observer) -> None:
        def reflect(where: Iterable[Listed[T]]) -> list[Reflector[T]]:
            return [Reflector(api, each, wake, observer, self.timing) for each in where]

        scopes: Sequence[str | None] = scope.namespaces or (None,)
        home, configmap = scope.home, scope.configmap
        self._classes = reflect([] if scope.namespaces else [_named(CLASSES, None, scope.class_name)])
        self._gateways = reflect(_listed(GATEWAYS, each) for each in scopes)
        self._httproutes = reflect(_listed(HTTPROUTES, each) for each in scopes)
        self._slices = reflect([_listed(SLICES, home.namespace, f"{SERVICE_NAME}={home.name}")] if home else [])
        self._entries = reflect([_named(CONFIGMAPS, configmap.namespace, configmap.name)] if configmap else [])
        self._alone = frozenset() if home else frozenset({scope.me})

    @property
    def threads(self) -> list[tuple[str, Callable[[], None]]]:
        """Return a name and a blocking function for each thread that it needs."""
        return [(f"reflector-{each.resource.name}", each.run) for each in self._all()]

    def stop(self) -> None:
        """Let the reflectors end at their next turn."""
        for each in self._all():
            each.stop()

    def known(self) -> Known | None:
        """Return what is known, None before each had one whole list."""
        if any(each.items() is None and not _may_lack(each) for each in self._all()):
            return None
        entries = {name: each for found in _values(self._entries) for name, each in found.items()}
        gateways = {each.key: each for each in _values(self._gateways)}
        ready = self._alone.union(*_values(self._slices))
        return Known(tuple(_values(self._classes)), gateways, tuple(_values(self._httproutes)), ready, entries)

    def _all(self) -> list[Reflector[Any]]:
        return [*self._classes, *self._gateways, *self._httproutes, *self._slices, *self._entries]


def _listed(resource: Resource[T], namespace: str | None, labels: str = "") -> Listed[T]:
    """Say where a resource is listed; its name has its group, since others watch Services that are called gateways."""
    return replace(listed(resource, labels, namespace), name=f"{resource.plural}.{resource.group}".rstrip("."))


def _named(resource: Resource[T], namespace: str | None, name: str) -> Listed[T]:
    return replace(_listed(resource, namespace), query={"fieldSelector": f"metadata.name={name}"})


def _may_lack(reflector: Reflector[Any]) -> bool:
    """Tell whether something may not be known: without the class, the operator's word for it stands."""
    return reflector.resource.path == CLASSES.path(None) and reflector.condition == SyncState.FORBIDDEN


def _values(reflectors: Iterable[Reflector[T]]) -> list[T]:
    return [value for each in reflectors for value in (each.items() or {}).values()]
