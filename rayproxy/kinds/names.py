"""Whose a name is, where objects of several namespaces want it: the same for every kind. Pure.

    the name                              | has it                             | any other object that wants it
    ------------------------------------- | ---------------------------------- | ------------------------------
    has a route, or had one, and the      | that object, routed or not         | rejected: NameConflict
    object that it was for is still there |                                    |
    had a route, and its object is gone   | its namespace, for a time          | rejected: NameHeld
    neither                               | the oldest that has a backend,     | rejected: NameConflict
                                          | else the oldest                    |

An object that is rejected for itself takes no name from another, nor does one whose namespace is not granted the name,
or has as many routes as it may. What a tenant is told names no other namespace.

Of more routes than a namespace may have, those go first whose names it has already, then the oldest: a live route
makes no room for another one, and all replicas are at one, since the claims tell each of them the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from rayproxy.kinds.claims import Claim, Held, Name, Seen, recorded, standing
from rayproxy.kinds.grants import Grants
from rayproxy.model import Decision, Ref, Rejection, Route


@dataclass(frozen=True)
class Settled:
    """Hold what became of each object, the claims that stand after it, and those whose object is there."""

    decisions: tuple[Decision, ...]
    claims: Mapping[Name, Claim]
    there: Collection[Name]


@dataclass(frozen=True)
class Kinds:
    """What people call the objects of each kind, and which kinds' objects may be there unseen."""

    titles: Mapping[str, str]
    unknown: Collection[str] = ()


def name_of(ref: Ref) -> Name:
    """Return the name that an object wants."""
    return ref.kind, ref.name


def holders(routes: Iterable[Route]) -> dict[Name, str]:
    """Return {name: the namespace that its live route is for}; an earlier build's routes did not say."""
    return {name_of(route.ref): route.ref.namespace for route in routes if route.ref.namespace}


def settle(found: Iterable[Decision], held: Held, kinds: Kinds, grants: Grants) -> Settled:
    """Give each name to one namespace; of what was `found` for itself, each kind's oldest come first."""
    wanted = [_granted(decision, grants) for decision in found]
    first = _first(wanted, grants.most)
    seen = Seen({decision.ref for decision in wanted}, first, kinds.titles.keys() - set(kinds.unknown))
    held = _held(held, grants, seen)
    claims = standing(held, seen)
    granted = {name: claim for name, claim in claims.items() if grants.allow(claim.namespace, name[1])}
    owners = _Owners(granted, seen, kinds.titles, grants.most)
    decisions = sorted(map(owners.given, _by_right(wanted, granted)), key=lambda decision: decision.ref)
    there = frozenset(name for name, claim in claims.items() if seen.has(name, claim))
    return Settled(tuple(decisions), recorded(claims, held, seen), there)


def _granted(decision: Decision, grants: Grants) -> Decision:
    """Return the decision if the object's namespace may have the name."""
    ref = decision.ref
    if isinstance(decision, Rejection) or grants.allow(ref.namespace, ref.name):
        return decision
    words = f"the name {ref.name} is not among those that this namespace is granted: whoever runs the proxy says which"
    return _rejected(decision, "NameNotGranted", words)


def _held(held: Held, grants: Grants, seen: Seen) -> Held:
    """Return what is held without what is not granted any more, but for claims to names that nobody else has.

    Those end by themselves, and count for nothing: a replica that has another policy for a while may need them, and
    the two would take them out and put them back in turns.
    """
    if grants.names is None:
        return held
    live = {name: namespace for name, namespace in held.live.items() if grants.allow(namespace, name[1])}
    claims = {
        name: claim
        for name, claim in held.claims.items()
        if grants.allow(claim.namespace, name[1]) or (name not in live and name not in seen.first)
    }
    return replace(held, live=live, claims=claims)


def _by_right(found: Iterable[Decision], claims: Mapping[Name, Claim]) -> list[Decision]:
    """Return what has a backend before what has none; of that what has its name already, then the older."""

    def right(decision: Decision) -> tuple[bool, bool, bool, str]:
        if not isinstance(decision, Route):
            return True, False, False, ""  # as they came
        claim = claims.get(name_of(decision.ref))
        has_it = claim is not None and claim.namespace == decision.ref.namespace
        return False, not has_it, not decision.created, decision.created

    return sorted(found, key=right)


def _first(found: Iterable[Decision], most: int) -> dict[Name, str]:
    """Return whose each name would be without claims, where somebody has a backend for it.

    It is "" where that is not certain: of a namespace that wants more routes than it may have, any may be left out.
    """
    routes = [decision for decision in found if isinstance(decision, Route)]
    wanted = Counter(route.ref.namespace for route in routes)
    first: dict[Name, str] = {}
    for route in routes:
        namespace = route.ref.namespace
        first.setdefault(name_of(route.ref), "" if 0 < most < wanted[namespace] else namespace)
    return first


class _Owners:
    """Give the names away, one object after the other."""

    def __init__(self, claims: Mapping[Name, Claim], seen: Seen, titles: Mapping[str, str], most: int) -> None:
        self._owners = {name: claim.namespace for name, claim in claims.items()}
        self._gone = {name for name, claim in claims.items() if claim.gone is not None and not seen.has(name, claim)}
        self._titles = titles
        self._most = most
        self._routes: Counter[str] = Counter()

    def given(self, decision: Decision) -> Decision:
        """Return the decision if its object has the name, or takes it."""
        if isinstance(decision, Rejection):
            return decision
        ref, name = decision.ref, name_of(decision.ref)
        if self._owners.get(name, ref.namespace) != ref.namespace:
            told = _kept if name in self._gone else _taken
            return _rejected(decision, *told(self._titles[ref.kind], ref.name))
        if isinstance(decision, Route):
            if 0 < self._most <= self._routes[ref.namespace]:
                return _rejected(decision, *_too_many(self._most))
            self._routes[ref.namespace] += 1
        self._owners[name] = ref.namespace
        return decision


def _rejected(decision: Decision, reason: str, words: str) -> Rejection:
    return Rejection(decision.ref, decision.uid, reason, words)


def _taken(title: str, name: str) -> tuple[str, str]:
    words = f"the name {name} belongs to another namespace's {title}, which had it first: rename this one"
    return "NameConflict", words


def _kept(title: str, name: str) -> tuple[str, str]:
    return "NameHeld", (
        f"the name {name} is kept for a while for another namespace, whose {title} was deleted: wait, rename this "
        "one, or let whoever runs the proxy release the name"
    )


def _too_many(most: int) -> tuple[str, str]:
    return "TooManyRoutes", (
        f"this namespace has as many routes as a namespace may have ({most}), which were there before or are older: "
        "delete one, or let whoever runs the proxy raise RAYPROXY_MAX_ROUTES_PER_NAMESPACE"
    )
