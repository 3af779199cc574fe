"""The registry of kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rayproxy.kinds import inferenceservice, llminferenceservice, names, rayservice, service
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.base import Kind
from rayproxy.kinds.claims import Held
from rayproxy.kinds.grants import Grants
from rayproxy.kinds.names import Kinds, Settled
from rayproxy.model import Endpoints, Key, Ref, Resource, Snapshot

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (rayservice.KIND, inferenceservice.KIND, llminferenceservice.KIND, service.KIND)
}
FIRST = rayservice.KIND.name  # of which a location template is that names no kind, and a name alone in a setting
DEFAULT = tuple(kind for kind in KINDS.values() if kind.by_default)


def settle(snapshot: Snapshot, policy: Policy, held: Held, grants: Grants) -> Settled:
    """Decide on every object of every kind that is not being deleted, and whose each name is."""
    found = (decision for kind in KINDS.values() for decision in kind.decide(snapshot, policy))
    unknown = [kind.name for kind in KINDS.values() if kind.routed in snapshot.unknown]
    return names.settle(found, held, Kinds({kind.name: kind.title for kind in KINDS.values()}, unknown), grants)


def resources(kinds: Iterable[Kind] = DEFAULT, gateways: tuple[Key, ...] = ()) -> tuple[Resource[Any], ...]:
    """Return what is listed and watched for these kinds, each once, with the gateways that the operator names."""
    found = dict.fromkeys(resource for kind in kinds for resource in kind.resources)
    return tuple(each if each.only is None else replace(each, only=gateways) for each in found)


def endpoints(kinds: Iterable[Kind] = DEFAULT) -> tuple[Resource[Endpoints], ...]:
    """Return what is listed and watched beside them, to know who answers, each once."""
    return tuple(dict.fromkeys(kind.endpoints for kind in kinds if kind.endpoints))


def route_file(ref: Ref) -> str:
    """Return the name of the file of an object's route."""
    return f"{KINDS[ref.kind].file_prefix}-{ref.name}.conf"
