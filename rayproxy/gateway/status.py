"""The text of what is said: the bodies of server-side applies to the status of an object. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rayproxy.gateway.conditions import Condition, Conditions
from rayproxy.gateway.objects import CONTROLLER, GROUP, VERSION, Gateway, GatewayClass, HTTPRoute, Parent, Said, Told
from rayproxy.model import Key

Body = dict[str, Any]
Words = Sequence[tuple[Parent, Conditions]]


def of_class(found: GatewayClass, wanted: Conditions, now: str) -> Body | None:
    """Return what to apply, None where that is what is said; `now` is RFC 3339."""
    if _is_said(wanted, found.said, found.generation):
        return None
    body = _body("GatewayClass", found.key)
    del body["metadata"]["namespace"]
    return body | {"status": {"conditions": _conditions(wanted, found.said, found.generation, now)}}


def of_gateway(found: Gateway, wanted: Conditions, now: str) -> Body | None:
    """Return what to apply, None where that is what is said, and by proxies of its class alone."""
    if found.spoken_alone and _is_said(wanted, found.said, found.generation):
        return None
    status = {"conditions": _conditions(wanted, found.said, found.generation, now)}
    return nothing(found) | {"status": status}


def nothing(found: Gateway) -> Body:
    """Return what to apply to take back what a manager said."""
    return _body("Gateway", found.key)


def of_httproute(found: HTTPRoute, wanted: Words, kept: Sequence[Told], now: str) -> Body | None:
    """Return what to apply, None where that is what is said, beside what is `kept`.

    The API server takes an HTTPRoute's parents as one, so what is kept goes back with it, and only where it is still
    what was read: the resourceVersion holds the API server to that.
    """
    before = {each.parent.ref: each.said for each in found.told if each not in kept}
    same = len(before) == len(wanted) and all(
        parent.ref in before and _is_said(conditions, before[parent.ref], found.generation, only=True)
        for parent, conditions in wanted
    )
    if same:
        return None
    own = [
        {
            "parentRef": json.loads(parent.ref),
            "controllerName": CONTROLLER,
            "conditions": _conditions(conditions, before.get(parent.ref, ()), found.generation, now),
        }
        for parent, conditions in wanted
    ]
    body = _body("HTTPRoute", found.key) | {"status": {"parents": [*(json.loads(each.entry) for each in kept), *own]}}
    body["metadata"]["resourceVersion"] = found.version
    return body


def _body(kind: str, key: Key) -> Body:
    metadata = {"name": key.name, "namespace": key.namespace}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata}


def _is_said(wanted: Conditions, said: Iterable[Said], generation: int, *, only: bool = False) -> bool:
    found = {each.type: each for each in said}
    if only and len(found) != len(wanted):
        return False
    return all(found.get(each.type) == _said(each, generation) for each in wanted)


def _said(wanted: Condition, generation: int) -> Said:
    return Said(wanted.type, str(wanted.status), wanted.reason, wanted.message, generation)


def _conditions(wanted: Conditions, said: Iterable[Said], generation: int, now: str) -> list[Body]:
    """Return conditions as the API has them; the time of one whose status does not change stays."""
    since = {(each.type, each.status): each.since for each in said}
    return [
        {
            "type": each.type,
            "status": str(each.status),
            "reason": each.reason,
            "message": each.message,
            "observedGeneration": generation,
            "lastTransitionTime": since.get((each.type, str(each.status))) or now,
        }
        for each in wanted
    ]
