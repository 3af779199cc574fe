"""Who answers behind the routes: EndpointSlices, reflected beside the source that decides the routes.

They change far more often than routes do, and make none: nobody is woken, whoever wants to know asks. Where they
cannot be read (a role of an earlier version, Kubernetes before 1.21), they are not known, and nothing else is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rayproxy.kinds import KINDS
from rayproxy.kinds.slices import Counts, answering, behind, count
from rayproxy.kube.api import ApiServer
from rayproxy.model import Endpoints, Key, Readiness, Resource, Route
from rayproxy.sources.kubernetes import listed
from rayproxy.sources.reflector import Observer, Reflector, ReflectorConfig, SyncState

READABLE = (SyncState.SYNCED, SyncState.UNREACHABLE)  # what was known stays so while the API server is away


class EndpointSource:
    """What is known of the endpoints of Services."""

    timing = ReflectorConfig()

    def __init__(
        self,
        api: ApiServer,
        resources: Iterable[Resource[Endpoints]],
        scope: tuple[str, Sequence[str]],  # the operator's selector and namespaces
        observe: Callable[[], Observer],  # called for each reflector: what is missing is missing somewhere
        find: Callable[[Resource[Any], Key], Any],
    ) -> None:
        selector, namespaces = scope
        self._reflectors = [
            Reflector(api, listed(resource, selector, namespace), self._note, observe(), self.timing)
            for resource in resources
            for namespace in tuple(dict.fromkeys(namespaces)) or (None,)
        ]
        self._find = find
        self._changed = True
        self._counts: Counts = {}

    @property
    def threads(self) -> list[tuple[str, Callable[[], None]]]:
        """Return a name and a blocking function for each thread that it needs."""
        return [(f"reflector-{each.resource.name}", each.run) for each in self._reflectors]

    def stop(self) -> None:
        """Let the reflectors end at their next turn."""
        for reflector in self._reflectors:
            reflector.stop()

    def look(self, route: Route) -> Readiness | None:
        """Return who answers behind a route, with its controller's words; None is not known."""
        if (counted := behind(route, self._counted())) is None:
            return None
        kind = KINDS[route.ref.kind]
        obj = self._find(kind.routed, route.ref.key)
        return Readiness(*counted, "" if obj is None else kind.words(obj))

    def answering(self, route: Route) -> Route:
        """Return a route with its requests for the target where somebody is ready, if that is known of one alone."""
        return answering(route, self._counted()) if len(route.targets) > 1 else route

    def _counted(self) -> Counts:
        if self._changed:
            self._changed = False  # first: what changes from now on is counted the next time
            self._counts = count(self._known())
        return self._counts

    def _known(self) -> Iterable[Endpoints]:
        """Return each slice once, also where it has the labels of two kinds."""
        known: dict[Key, Endpoints] = {}
        for reflector in self._reflectors:
            if reflector.condition in READABLE:
                known |= reflector.items() or {}
        return known.values()

    def _note(self) -> None:
        self._changed = True
