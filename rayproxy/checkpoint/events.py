"""Events about a RayService: when they are from, and what the proxy says in its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rayproxy.objects import dig, text

Object = dict[str, Any]

_PROXY = "rayproxy"  # the component that its Events name
_REJECTED = "RouteRejected"  # RouteRefused only repeats KubeRay's words, which the RayService has as well


def last(event: Object) -> str:
    """Return when an Event was last seen, RFC 3339 in UTC without the Z; "" where it does not say."""
    # An eventTime has microseconds: without them, texts in RFC 3339 compare as their times do.
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")[:19]


def rejection(rayservice: Object, events: Iterable[Object]) -> Object | None:
    """Return the Event by which the proxy rejects this very RayService, unless it has said something else since.

    It says a state once, and not again while that lasts.
    """
    about = [event for event in events if _is_of_its_route(event, rayservice)]
    # Of two of one second nobody knows which came last: then it is not rejected.
    newest = max(about, key=lambda event: (last(event), event.get("reason") != _REJECTED), default=None)
    return newest if newest and newest.get("reason") == _REJECTED else None


def _is_of_its_route(event: Object, rayservice: Object) -> bool:
    uid = text(rayservice, "metadata", "uid")
    ours = text(event, "source", "component") == _PROXY and text(event, "reason").startswith("Route")
    return ours and bool(uid) and dig(event, "involvedObject", "uid") == uid
