"""The registry of kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rayproxy.kinds import rayservice
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.base import Kind
from rayproxy.model import Decision, Ref, Resource, Snapshot

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (rayservice.KIND,)}


def decide(snapshot: Snapshot, policy: Policy) -> list[Decision]:
    """Decide on every object of every kind that is not being deleted, ordered by what it is."""
    decisions = (decision for kind in KINDS.values() for decision in kind.decide(snapshot, policy))
    return sorted(decisions, key=lambda decision: decision.ref)


def resources(kinds: Iterable[Kind] = tuple(KINDS.values())) -> tuple[Resource[object], ...]:
    """Return what is listed and watched for these kinds, each once."""
    return tuple(dict.fromkeys(resource for kind in kinds for resource in kind.resources))


def route_file(ref: Ref) -> str:
    """Return the name of the file of an object's route."""
    return f"{KINDS[ref.kind].file_prefix}-{ref.name}.conf"
