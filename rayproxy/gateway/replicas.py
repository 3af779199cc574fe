"""What replicas of the proxy know of each other: which routes each has proven in its nginx, and when it said so. Pure.

Each replica has an entry in a ConfigMap: `rayproxy-5d9c-x7k2p: {"at": "2026-01-02T03:04:05Z", "proven": ["0f3a..."]}`,
which it writes anew all the while. Which of them are ready is what the cluster says, in the EndpointSlices of the
proxy's own Service: these are the ones to which callers come.

    replica                    | its entry                    | holds words back
    -------------------------- | ---------------------------- | ----------------------------
    ready                      | new, the route is in it      | no
    ready                      | new, the route is not in it  | yes: it leads elsewhere
    ready (starts; cut off)    | none, or an old one          | yes: nobody knows
    not ready, gone            | any                          | no: no caller comes to it

The first of the ready ones that has a new entry speaks for all. What it says follows from the entries, so that the one
that speaks after it says the same.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from rayproxy.kinds.slices import is_ready, service_of
from rayproxy.model import Resource, Route
from rayproxy.objects import array, dig, instant, rfc3339, text

BEAT = 5.0  # s between two entries of one replica
OLD = 20  # s after which an entry says nothing any more, by the clocks of both
FORGOTTEN = 600  # s after which the entry of one that is gone is taken away


@dataclass(frozen=True, slots=True)
class Entry:
    """What a replica said: when, in seconds since 1970, and the tokens of the routes that it has proven."""

    at: int
    proven: frozenset[str]

    def is_new(self, now: float) -> bool:
        """Tell whether it still says something."""
        return abs(now - self.at) <= OLD


Entries = Mapping[str, Entry]


def token(route: Route) -> str:
    """Return what stands for a route and all that it leads to, whatever the weights."""
    leads = sorted(map(str, route.targets))
    return hashlib.sha256(f"{route.ref.kind} {route.ref} {route.uid} {leads}".encode()).hexdigest()[:16]


def write(proven: Iterable[str], now: float) -> str:
    """Return the text of an entry."""
    at = rfc3339(now)
    return json.dumps({"at": at, "proven": sorted(proven)})


def read_entries(obj: object) -> Entries:
    """Return the entries of a ConfigMap; what is none is left out, and counts as nothing said."""
    data = dig(obj, "data")
    read = ((str(name), _entry(value)) for name, value in (data.items() if isinstance(data, dict) else ()))
    return {name: entry for name, entry in read if entry}


def read_ready(obj: object) -> frozenset[str]:
    """Return the pods that an EndpointSlice has as ready; one that its Service does not control has none."""
    if not service_of(obj).uid:
        return frozenset()
    ready = (each for each in array(obj, "endpoints") if is_ready(each))
    return frozenset(filter(None, (text(each, "targetRef", "name") for each in ready)))


def lacking(proof: str, ready: Collection[str], entries: Entries, now: float) -> str:
    """Return which of the ready replicas has not proven a route, by its token, and how; "" where all have."""
    return next(filter(None, (_lacks(name, proof, entries.get(name), now) for name in sorted(ready))), "")


def speaker(ready: Collection[str], entries: Entries, now: float) -> str:
    """Return which replica speaks for all, "" where none may."""
    return next((name for name in sorted(ready) if name in entries and entries[name].is_new(now)), "")


def forgotten(ready: Collection[str], entries: Entries, now: float) -> list[str]:
    """Return the replicas that are gone for long."""
    return sorted(name for name, entry in entries.items() if name not in ready and now - entry.at > FORGOTTEN)


def _lacks(name: str, proof: str, entry: Entry | None, now: float) -> str:
    if entry is None:
        return f"the replica {name} of the proxy is ready and has not said yet which routes it has proven"
    if not entry.is_new(now):
        since = rfc3339(entry.at)
        return f"the replica {name} of the proxy is ready and has not been heard of since {since}"
    if proof not in entry.proven:
        return f"the replica {name} of the proxy has not proven in its nginx that it leads to all of these clusters"
    return ""


def _entry(value: object) -> Entry | None:
    try:
        found = json.loads(value) if isinstance(value, str) else None
        at = dt.datetime.fromisoformat(instant(text(found, "at"))).timestamp()
    except (ValueError, RecursionError):  # the former also of a thirteenth month, and of no time at all
        return None
    proven = dig(found, "proven")
    if not isinstance(proven, list):
        return None
    return Entry(int(at), frozenset(each for each in proven if isinstance(each, str)))


SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", read_ready)
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap", read_entries, custom=False)
