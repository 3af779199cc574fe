"""What keeps a name for a namespace beyond what objects show by themselves. Pure: the time comes in with what is held.

    the object of the namespace that has a name      | the claim
    ------------------------------------------------ | -------------------------------------------------
    is there, and would get the name without a claim | is not needed, and goes
    is there, routed or not, and would not           | is made, or stays, without an end
    may be there and not be seen                     | stays as it is
    is gone, and was there at the look before        | ends after the time that names are kept
    is gone, and was not there before either         | stays as it is: another replica may see the object
    is gone, and the claim has ended                 | goes

So a claim is rare: a name whose oldest object has a backend and a live route needs none. Where a namespace wants more
routes than it may have, each of its names needs one: they say to every replica which of the routes are there already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from rayproxy.model import Ref

MAX_CLAIMS = 1000  # of some 200 bytes each, in an object that may have a megabyte

Name = tuple[str, str]  # kind and name, as they stand in a path


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose a name is; `gone` is when its object was found to be gone (s since 1970), None while it is there."""

    namespace: str
    gone: int | None = None

    def ended(self, now: int, keep: int) -> bool:
        """Tell whether the time is over for which a deleted object's name is kept."""
        return self.gone is not None and now >= self.gone + keep


@dataclass(frozen=True)
class Held:
    """Who had which name before: the namespaces whose routes are served, and the claims to names besides.

    `there` are the claims whose object was there at the look before, None where there was none.
    """

    live: Mapping[Name, str] = field(default_factory=dict)
    claims: Mapping[Name, Claim] = field(default_factory=dict)
    there: Collection[Name] | None = None
    now: int = 0
    keep: int = 0  # s


@dataclass(frozen=True)
class Seen:
    """What a look shows: all objects, who gets a name without a claim, and the kinds whose objects are all seen."""

    refs: Collection[Ref]
    first: Mapping[Name, str]
    known: Collection[str]

    def has(self, name: Name, claim: Claim) -> bool:
        """Tell whether the object of a claim is there."""
        return Ref(name[0], claim.namespace, name[1]) in self.refs

    def needs(self, name: Name, claim: Claim) -> bool:
        """Tell whether somebody else could get the name if the claim were not there."""
        return self.first.get(name) != claim.namespace


def standing(held: Held, seen: Seen) -> dict[Name, Claim]:
    """Return the claims after a look, those of live routes among them that need one now."""
    live = {name: Claim(namespace) for name, namespace in held.live.items() if name not in held.claims}
    wanted = {**live, **held.claims}
    after = ((name, _after(name, claim, held, seen)) for name, claim in wanted.items() if seen.needs(name, claim))
    return {name: claim for name, claim in after if claim}


def _after(name: Name, claim: Claim, held: Held, seen: Seen) -> Claim | None:
    if seen.has(name, claim):
        return Claim(claim.namespace)
    if name[0] not in seen.known:
        return claim
    if claim.gone is None and (name not in held.claims or held.there is None or name in held.there):
        claim = Claim(claim.namespace, held.now)
    return None if claim.ended(held.now, held.keep) else claim


def recorded(claims: Mapping[Name, Claim], held: Held, seen: Seen) -> dict[Name, Claim]:
    """Return the claims that are to be written down: a live route that is not seen at the moment is on disk anyway."""
    return bounded({name: claim for name, claim in claims.items() if name in held.claims or name[0] in seen.known})


def bounded(claims: dict[Name, Claim]) -> dict[Name, Claim]:
    """Return as many as there may be: the oldest goes of the namespace that has most, so none crowds out others."""
    of: dict[str, list[Name]] = defaultdict(list)
    for name in sorted(claims, key=lambda name: (_last(claims[name]), name), reverse=True):
        of[claims[name].namespace].append(name)
    for _ in range(len(claims) - MAX_CLAIMS):
        max(of.values(), key=len).pop()
    return {name: claims[name] for names in of.values() for name in names}


def _last(claim: Claim) -> float:
    return float("inf") if claim.gone is None else claim.gone
