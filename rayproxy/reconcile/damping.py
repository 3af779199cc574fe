"""Let an object that changes again and again wait, ever longer, so that others need not. Pure but for what it holds.

Each change that is served costs a reload, and a reload leaves workers behind that drain. What takes a route away, or
one of its addresses, waits for nothing: where a route should no longer lead is soon somebody else's address. So a
route whose change waits stays only where all that it leads to is still its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rayproxy.model import Decision, Pending, Ref, Refused, Rejection, Route, Suspended

FREE = 8  # changes that wait for nothing: a RayService that is made, and its Service, are two
FIRST = 10.0  # s that the next one waits after the last, and GROWTH times as long each time
GROWTH = 3
LONGEST = 600.0  # s
FORGET = 300.0  # s in which one change is forgotten
SHARE = 0.25  # of a change, at least, that counts for each of many objects that changed with one reload
STEP = 0.25  # of a change, for a step of an upgrade: the weights are others, the addresses are not
MOST = 10_000  # objects whose changes are counted; those that changed last
TOO_OFTEN = "ChangesTooOften"


@dataclass(frozen=True, slots=True)
class Damped:
    """What to serve, what to say of objects whose change waits, and when (monotonic s) the next of these may go."""

    served: tuple[Decision, ...] = ()
    waiting: Mapping[Ref, Rejection] = field(default_factory=dict)
    again: float | None = None


@dataclass(frozen=True, slots=True)
class _Count:
    changes: float
    at: float  # monotonic s, of the last one

    def left(self, now: float) -> float:
        return max(0.0, self.changes - (now - self.at) / FORGET)

    @property
    def until(self) -> float:
        more = round(self.changes) - FREE
        return self.at if more < 0 else self.at + min(LONGEST, FIRST * GROWTH**more)


class Damping:
    """Hold what was last served of each object, and how often that has changed lately."""

    def __init__(self) -> None:
        self._served: dict[Ref, Decision] | None = None  # None before anything was
        self._counts: dict[Ref, _Count] = {}  # the latest change last
        self._waiting: Mapping[Ref, Decision] = {}  # what waited at the last look

    @property
    def routes(self) -> tuple[Route, ...]:
        """Return the routes that waited at the last look: no file shows whose their names are."""
        return tuple(each for each in self._waiting.values() if isinstance(each, Route))

    @property
    def namespaces(self) -> set[str]:
        """Return the namespaces that have objects now."""
        return {ref.namespace for ref in self._served or ()}

    def damp(self, wanted: Sequence[Decision], now: float) -> Damped:
        """Put what is served already in the place of changes that must wait."""
        found = [(each, self._until(each, now)) for each in wanted]
        until = {each.ref: moment for each, moment in found if moment is not None}
        self._waiting = {each.ref: each for each in wanted if each.ref in until}
        if not until:
            return Damped(tuple(wanted))
        waiting = {ref: _too_often(each) for ref, each in self._waiting.items()}
        served = [self._instead(each, waiting[each.ref]) if each.ref in until else each for each in wanted]
        return Damped(tuple(filter(None, served)), waiting, min(until.values()))

    def changed(self, served: Sequence[Decision]) -> list[Ref]:
        """Return the objects of which callers would see something else than what is served now."""
        if self._served is None:
            return []
        now = {each.ref: each for each in served}
        changed = [ref for ref, each in now.items() if _seen(each) != _seen(self._served.get(ref))]
        return [*changed, *(self._served.keys() - now.keys())]

    def unchanged(self, wanted: Sequence[Decision]) -> tuple[Decision, ...] | None:
        """Return what is served now, with what else is said of it meanwhile; None before anything was."""
        if self._served is None:
            return None
        told = {each.ref: each for each in wanted if _seen(each) == _seen(self._served.get(each.ref))}
        return tuple({**self._served, **told}.values())

    def took(self, served: Sequence[Decision], now: float) -> None:
        """Note what is served now."""
        changed = self.changed(served)
        before, self._served = self._served or {}, {each.ref: each for each in served}
        for ref in changed:
            size = STEP if _is_step(self._served.get(ref), before.get(ref)) else 1.0
            self._count(ref, size * max(SHARE, 1 / len(changed)), now)
        self._counts = {ref: count for ref, count in self._counts.items() if count.left(now)}

    def _until(self, wanted: Decision, now: float) -> float | None:
        """Return until when a change has to wait, or None where it need not."""
        count = self._counts.get(wanted.ref)
        if count is None or count.until <= now or self._served is None:
            return None
        before = self._served.get(wanted.ref)
        # what waits goes on waiting whatever it changes to: it would be news with each change otherwise
        waits = wanted.ref in self._waiting or _seen(wanted) != _seen(before)
        return count.until if waits and not _takes_away(before, wanted) else None

    def _instead(self, wanted: Decision, told: Rejection) -> Decision | None:
        before = self._served.get(wanted.ref) if self._served else None
        return told if _leads_elsewhere(before, wanted) else before

    def _count(self, ref: Ref, change: float, now: float) -> None:
        count = self._counts.pop(ref, None)
        self._counts[ref] = _Count(change + (count.left(now) if count else 0.0), now)
        if len(self._counts) > MOST:
            del self._counts[next(iter(self._counts))]


def _seen(decision: Decision | None) -> tuple[object, ...]:
    """Return what callers see of a decision: what is only said about an object is no part of it."""
    if isinstance(decision, Route):
        return Route, decision.path, decision.targets
    if isinstance(decision, Refused):
        return Refused, decision.reason
    return type(decision), decision.told if isinstance(decision, Pending) else ""


def _is_step(one: Decision | None, other: Decision | None) -> bool:
    """Tell whether callers see no difference but in how many of them are led to which of the same addresses."""
    if not (isinstance(one, Route) and isinstance(other, Route)):
        return False
    return len(one.targets) > 1 and _addresses(one) == _addresses(other)


def _takes_away(before: Decision | None, wanted: Decision) -> bool:
    """Tell whether a route goes, or does not lead any more to a part of where it leads."""
    return isinstance(before, Route) and (not isinstance(wanted, Route) or _addresses(wanted) < _addresses(before))


def _leads_elsewhere(before: Decision | None, wanted: Decision) -> bool:
    """Tell whether a route leads where it should not any more."""
    return isinstance(before, Route) and not (isinstance(wanted, Route) and _addresses(before) <= _addresses(wanted))


def _addresses(route: Route) -> set[tuple[str, int, str]]:
    return {(target.host, target.port, target.name) for target in route.targets}


def _too_often(decision: Decision) -> Rejection:
    message = (
        f"it changes so often that each change waits longer than the one before, up to {LONGEST:.0f} s: leave it as "
        f"it should be, and that is taken by itself{_what_waits(decision)}"
    )
    return Rejection(decision.ref, decision.uid, TOO_OFTEN, message)


def _what_waits(decision: Decision) -> str:
    """Return what is wrong with an object besides, so that its author can mend it meanwhile."""
    match decision:
        case Rejection(reason=reason, message=message) | Refused(reason=reason, message=message):
            return f". It would be told: {reason}: {message}"
        case Pending(message=message) | Suspended(message=message):
            return f". It would be told: {message}"
    return ""
