"""What a kind of routed object is. A new one is a file beside this one, a line in the registry, and its tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rayproxy.kinds.backend import Policy
from rayproxy.model import Decision, Endpoints, Ref, Resource, Snapshot

SEE_WHY = "Its Events say why, and so does: rayproxy routes"


@dataclass(frozen=True)
class Kind:
    """What the rest of the daemon knows of a kind: names, what to watch for it, and how its objects are decided."""

    name: str  # in paths, metrics and Refs
    file_prefix: str  # of the files of its routes; no other kind's begins with it and a hyphen
    routed: Resource[Any]  # the objects themselves
    services: Resource[Any]  # the Services that may be their backends
    controller: str  # who makes its Services, in the words for people
    operator: str  # whose CRD it is, for a person who has to install it
    told: Mapping[str, str]  # what a caller is told of an object without a route, by its state; {} is for why
    decide: Callable[[Snapshot, Policy], list[Decision]]  # pure; its table stands above it
    endpoints: Resource[Endpoints] | None = None  # of these Services; decides no route
    words: Callable[[Any], str] = lambda _: ""  # what its controller says of one of its objects, "" where all is well
    by_default: bool = True  # routed where no setting says which kinds are
    gateways: Resource[Any] | None = None  # Services that the operator names, which lead on to its backends

    @property
    def resources(self) -> tuple[Resource[Any], ...]:
        """Return all that is listed and watched for it, hence also what it takes permissions for."""
        return (self.routed, *self.backends)

    @property
    def backends(self) -> tuple[Resource[Any], ...]:
        """Return the Services whose addresses its routes may lead to."""
        return (self.services,) if self.gateways is None else (self.services, self.gateways)

    @property
    def title(self) -> str:
        """Return what people call one of its objects."""
        return self.routed.kind

    @property
    def api_version(self) -> str:
        """Return the apiVersion of its objects, as an Event names them."""
        return f"{self.routed.group}/{self.routed.version}".lstrip("/")


def path(ref: Ref) -> str:
    """Return the path of an object's route, without a slash at its end."""
    return f"/apis/{ref.kind}/{ref.name}"
