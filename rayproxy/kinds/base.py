"""What a kind of routed object is. A new one is a file beside this one, a line in the registry, and its tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rayproxy.kinds.backend import Policy
from rayproxy.model import Decision, Ref, Resource, Snapshot


@dataclass(frozen=True)
class Kind:
    """What the rest of the daemon knows of a kind: names, what to watch for it, and how its objects are decided."""

    name: str  # in paths, metrics and Refs
    file_prefix: str  # of the files of its routes; no other kind's begins with it and a hyphen
    routed: Resource[Any]  # the objects themselves
    services: Resource[Any]  # the Services that may be their backends
    operator: str  # whose CRD it is, for a person who has to install it
    decide: Callable[[Snapshot, Policy], list[Decision]]  # pure; its table stands above it

    @property
    def resources(self) -> tuple[Resource[Any], ...]:
        """Return all that is listed and watched for it, hence also what it takes permissions for."""
        return (self.routed, self.services)

    @property
    def api_version(self) -> str:
        """Return the apiVersion of its objects, as an Event names them."""
        return f"{self.routed.group}/{self.routed.version}".lstrip("/")


def path(ref: Ref) -> str:
    """Return the path of an object's route, without a slash at its end."""
    return f"/apis/{ref.kind}/{ref.name}"
