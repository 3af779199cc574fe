"""Reconcile: make what nginx serves equal to what the source wishes. `run_once` is the whole design."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from rayproxy.kinds import route_file, settle
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.grants import Grants
from rayproxy.kinds.names import Settled, holders
from rayproxy.ledger.ledger import Ledger
from rayproxy.model import Decision, Rejection, Route, Snapshot
from rayproxy.nginx import render
from rayproxy.nginx.process import ConfigRefusedError, DrainingError, Nginx, UnprovenError
from rayproxy.nginx.render import BASE, FIXED, File, NginxConf, Routed, RouteFiles
from rayproxy.nginx.revisions import Revision, Revisions
from rayproxy.nginx.routes import entry
from rayproxy.nginx.templates import BUILT_IN, LocationTemplate
from rayproxy.reconcile import staying
from rayproxy.reconcile.bisect import TooManyRefusedError, accept
from rayproxy.reconcile.damping import Damped, Damping
from rayproxy.reconcile.plan import Changes, plan, vanishes_at_once
from rayproxy.reconcile.refused import Refused
from rayproxy.reconcile.room import Room
from rayproxy.sources.base import Source

NOTHING = Settled((), {}, ())
KEPT = "; its last good version goes on being served"
LARGE = 1000  # routes; below, nginx -t on the whole takes some 30 ms


@dataclass(frozen=True)
class Config:
    """What a cycle goes by besides the objects.

    `template` and `grants` return what to use now, and what is wrong with it; `second_look` looks past every
    cache; `answering` returns a route with its requests for those alone of whom it is known that they answer.
    """

    policy: Policy
    nginx: NginxConf
    template: Callable[[], tuple[LocationTemplate, tuple[str, ...]]]
    grants: Callable[[], tuple[Grants, tuple[str, ...]]]
    second_look: Callable[[], Snapshot]
    answering: Callable[[Route], Route] = lambda route: route


@dataclass(frozen=True)
class Desired:
    """What should be served, and what was decided on the way to it; `routes` by the names of their files."""

    snapshot: Snapshot
    decisions: tuple[Decision, ...]
    routes: Mapping[str, Routed]
    nginx: NginxConf
    problems: tuple[str, ...]
    independent: bool  # no route's file can collide with another's: the template is one of our own
    settled: Settled = NOTHING  # before nginx's word
    damped: Damped = field(default_factory=Damped)
    kept: tuple[Route, ...] = ()  # as they are live: nothing is known of their objects
    unrendered: Mapping[str, str] = field(default_factory=dict)  # file -> why the template has no text for its route

    @property
    def told(self) -> tuple[Decision, ...]:
        """Return what is decided of each object, those included whose change waits."""
        return tuple({**{each.ref: each for each in self.decisions}, **self.damped.waiting}.values())

    @cached_property
    def files(self) -> dict[str, File]:
        """Return every file of the revision but for revision.conf, which names the revision itself."""
        served = [each.route for each in self.routes.values()]
        return render.render_base(self.decisions, served, self.nginx) | render.route_files(self.routes)

    @cached_property
    def sums(self) -> dict[str, str]:
        """Return {file name: digest}."""
        return {name: file.digest for name, file in self.files.items()}


@dataclass(frozen=True)
class Current:
    """What is live, as it was read back: nothing where there is no revision that can be trusted."""

    revision: Revision | None
    routes: Mapping[str, Route]

    @property
    def sums(self) -> Mapping[str, str]:
        """Return {file name: digest}."""
        return self.revision.sums if self.revision else {}


@dataclass(frozen=True)
class Outcome:
    """What a cycle found and did."""

    decisions: tuple[Decision, ...]
    problems: tuple[str, ...]
    revision: str
    changes: Changes
    reloaded: bool
    again: float | None = None  # monotonic s, when changes may be served that wait for now
    waits: str = ""  # why nothing that was found to change is served
    kept: tuple[Route, ...] = ()  # live routes of objects that cannot be read, so that nothing was decided of them


class Reconciler:
    """The parts together. What is live is never remembered here, it is read back each time."""

    def __init__(self, source: Source, ledger: Ledger, revisions: Revisions, nginx: Nginx, config: Config) -> None:
        self.source = source
        self.ledger = ledger
        self.revisions = revisions
        self.nginx = nginx
        self.config = config
        self._route_files = RouteFiles()
        self._damping = Damping()
        settings = config.nginx.settings
        self._room = Room(settings.max_draining, settings.workers, settings.worker_shutdown_timeout)
        self._refused = Refused()

    def run_once(self, *, resync: bool = False) -> Outcome:
        """Make what is served what the objects say.

        Raises whatever is wrong with the world (source, template, disk, nginx); what was served then still is.
        """
        try:
            # 1. observe: everything at once, or nothing is changed
            snapshot = self.source.snapshot()
            # 2. current: what is live, read back from disk
            current = self._current(resync=resync)
            # 3. desire: what becomes of each object, and whose each name is; the accepted ones rendered
            desired = self._desire(snapshot, current)
            # 4. plan: what is unknown is held, and a second look decides where most would vanish
            desired, changes = self._plan(desired, current)
            self.ledger.note(desired.settled)
            wishes = frozenset(ref.namespace for ref in self._damping.changed(desired.decisions))
            if waits := self._lacks_room(wishes) if changes and current.revision else "":
                return self._unchanged(desired, waits)
            # 5. accept: written and tested; what nginx refuses is left out, and only that
            candidate, desired = self._accept(desired, current, changes)
        except Exception:
            self._mend(self.revisions.current())  # whatever is unknown or cannot be written, what is live is served
            raise
        # 6. apply: switched, reloaded, proven, or switched back
        reloaded = self._apply(candidate, current.revision)
        if reloaded:
            self._room.took(wishes, time.monotonic())
        reloaded |= self._mend(candidate)
        self._damping.took(desired.decisions, time.monotonic())
        # 7. report: whoever called tells everyone
        again, kept = desired.damped.again, desired.kept
        return Outcome(desired.told, desired.problems, candidate.name, changes, reloaded, again, kept=kept)

    def _lacks_room(self, wishes: frozenset[str] = frozenset()) -> str:
        """Return why too many workers drain for one more reload, which these namespaces wish for, or ""."""
        return self._room.lacks(self.nginx.draining(), wishes, self._damping.namespaces, time.monotonic())

    def _unchanged(self, desired: Desired, waits: str) -> Outcome:
        """Go on serving what is served; what is only said of objects is told all the same."""
        served, live = self._damping.unchanged(desired.decisions), self.revisions.current()
        if served is None or live is None:  # after a restart: it is not known what of all this is served
            raise DrainingError(waits)
        self._mend(live)
        told = replace(desired, decisions=served).told
        again, kept = desired.damped.again, desired.kept
        return Outcome(
            told, desired.problems, live.name, Changes(), reloaded=False, again=again, waits=waits, kept=kept
        )

    def _mend(self, revision: Revision | None) -> bool:
        """Reload where nginx serves something else than this revision: restarted, or without a worker."""
        if revision is None or self.nginx.served() == revision.name:
            return False
        if words := self._lacks_room():
            raise DrainingError(words)
        self.nginx.reload(revision.name)
        return True

    def _desire(self, snapshot: Snapshot, current: Current) -> Desired:
        template, problems = self.config.template()
        grants, wrong = self.config.grants()
        held = self.ledger.held(holders((*self._damping.routes, *current.routes.values())))
        settled = settle(snapshot, self.config.policy, held, grants)
        decided = [self.config.answering(each) if isinstance(each, Route) else each for each in settled.decisions]
        damped = self._damping.damp(decided, time.monotonic())
        wanted = [decision for decision in damped.served if isinstance(decision, Route)]
        routes = self._route_files(wanted, template, self.config.nginx)
        problems += wrong + snapshot.problems + self.ledger.problems
        independent = template.name in BUILT_IN
        nginx, failed = self.config.nginx, self._route_files.failed
        return Desired(
            snapshot, damped.served, routes, nginx, problems, independent, settled, damped, unrendered=failed
        )

    def _current(self, *, resync: bool) -> Current:
        """Read the live revision; at a resync every byte of it, and what nginx refused gets another chance."""
        revision = self.revisions.current()
        if resync:
            self._refused.give_another_chance()
            if revision and not self.revisions.intact(revision):
                revision = self.revisions.salvage(revision)
        return Current(revision, self.revisions.routes(revision) if revision else {})

    def _plan(self, desired: Desired, current: Current) -> tuple[Desired, Changes]:
        held = self._hold(desired, current)
        changes = plan(current.sums, held.sums)
        if vanishes_at_once(current.routes, changes):
            held = self._hold(self._desire(self.config.second_look(), current), current)
            changes = plan(current.sums, held.sums)
        return held, changes

    def _hold(self, desired: Desired, current: Current) -> Desired:
        """Keep what is live where what should be is not known, or was refused by nginx as it is."""
        missing = {name: route for name, route in current.routes.items() if name not in desired.routes}
        unread = staying.unread(missing, desired.decisions)
        live = self._live({**staying.unknown(missing, desired.snapshot), **unread}, current)
        kept = {each.route.ref: each.route for each in live.values()}
        decisions = tuple(_kept(each) if each.ref in kept else each for each in desired.decisions)
        undecided = tuple(kept[ref] for ref in sorted(kept.keys() - {each.ref for each in decisions}))
        held = replace(desired, decisions=decisions, routes={**live, **desired.routes}, kept=undecided)
        return self._without_refused(held, current)

    def _live(self, routes: Mapping[str, Route], current: Current) -> dict[str, Routed]:
        """Return routes as they are live."""
        if current.revision is None:
            return {}
        files = self.revisions.files(current.revision, routes)
        return {name: Routed(routes[name], file, entry(routes[name])) for name, file in files.items()}

    def _last_good(self, wanted: Mapping[str, Route], current: Current) -> dict[str, Routed]:
        """Return the live versions of routes that may go on being served in the place of these."""
        live = {name: current.routes[name] for name in wanted.keys() & current.routes.keys()}
        return self._live(
            {name: each for name, each in live.items() if staying.is_its_own(each, wanted[name])}, current
        )

    def _without_refused(self, desired: Desired, current: Current) -> Desired:
        """Put the last good version, or nothing, in the place of each file that has no text, or that nginx refused."""
        wanted = _wanted(desired)
        refused = {name: ("RefusedByTemplate", words) for name, words in desired.unrendered.items() if name in wanted}
        sums = {name: each.file.digest for name, each in desired.routes.items() if name in wanted}
        refused |= {
            name: ("RefusedByNginx", f"nginx -t refuses its route: {words}")
            for name, words in self._refused.words(sums).items()
        }
        if not refused:
            return desired
        kept = self._last_good({name: wanted[name] for name in refused}, current)
        decisions = tuple(_refuse(decision, refused, kept) for decision in desired.decisions)
        routes = {name: each for name, each in desired.routes.items() if name not in refused} | kept
        return replace(desired, decisions=decisions, routes=routes)

    def _accept(self, desired: Desired, current: Current, changes: Changes) -> tuple[Revision, Desired]:
        """Write the desired revision and test it; leave out what nginx refuses, and only that."""
        live, self._refused.searching = current.revision, False
        if live and live.whole and not changes:
            return live, desired
        try:
            return self._tested(desired.files, live, _suspects(desired, current, changes)), desired
        except ConfigRefusedError as error:
            wishes = [name for name in (*changes.update, *changes.create) if name in desired.routes]
            if not wishes:
                raise
            first_words = error
        start = {name: file for name, file in desired.files.items() if name not in wishes}
        last_good = self._last_good({name: desired.routes[name].route for name in wishes}, current)
        start |= {name: each.file for name, each in last_good.items()}
        # oldest first: the younger one loses
        wishes.sort(key=lambda name: (desired.routes[name].route.created or "~", name))
        try:
            _, refused = accept(partial(self._try, live), start, wishes, desired.files, live=bool(current.routes))
        except TooManyRefusedError as error:
            self._refused.note(error.refused, desired.sums)
            self._refused.searching = True
            raise
        if not refused:  # what failed a moment ago passes now: the world outside the files changed
            raise first_words
        self._refused.note(refused, desired.sums)
        desired = self._without_refused(desired, current)
        return self._tested(desired.files, live), desired

    def _try(self, current: Revision | None, files: Mapping[str, File]) -> None:
        """Test files together, and keep nothing of them; raise ConfigRefusedError."""
        self.revisions.discard(self._tested(files, current))

    def _tested(
        self, files: Mapping[str, File], current: Revision | None, suspects: Mapping[str, File] | None = None
    ) -> Revision:
        """Write a revision and return it if nginx -t passes on it, or on the suspects among its files alone.

        The suspects are written, not linked: a file that was linked for a moment would be read again the next time.
        """
        candidate = self.revisions.write(files, current)
        tested = candidate if suspects is None else self.revisions.write(suspects, None)
        try:
            self.nginx.test(tested.conf)
        except BaseException:
            self.revisions.discard(candidate)
            raise
        finally:
            if tested.name != candidate.name:
                self.revisions.discard(tested)
        return candidate

    def _apply(self, candidate: Revision, previous: Revision | None) -> bool:
        """Activate the candidate and reload; without the proof that it is served, bring the previous one back."""
        if previous and candidate.name == previous.name:
            return False
        self.revisions.activate(candidate)
        try:
            self.nginx.reload(candidate.name)
        except UnprovenError:
            if previous:
                self.revisions.activate(previous)
                self.nginx.reload(previous.name)
            raise
        self.revisions.fsync()
        self.revisions.prune()
        return True


def _kept(decision: Decision) -> Decision:
    """Return what is told of an object without a route of its own whose live one stays."""
    return decision if isinstance(decision, Route) else replace(decision, message=decision.message + KEPT)


def _wanted(desired: Desired) -> dict[str, Route]:
    """Return the routes that objects are to have, by the names of their files."""
    return {route_file(each.ref): each for each in desired.decisions if isinstance(each, Route)}


def _suspects(desired: Desired, current: Current, changes: Changes) -> dict[str, File] | None:
    """Return what must be tested of a large revision, or None for all of it.

    nginx has loaded the unchanged files already, and with our own templates no two files can collide. With 5,000
    routes, testing all of them again costs as long as the reload, and the reload proves the whole tree anyway.
    """
    live = current.revision
    if live is None or not live.whole or not desired.independent or len(desired.routes) < LARGE:
        return None
    if not set(FIXED).isdisjoint(changes.names):
        return None
    changed = {name: file for name, file in desired.files.items() if live.sums.get(name) != file.digest}
    return {name: desired.files[name] for name in BASE} | changed


def _refuse(decision: Decision, refused: Mapping[str, tuple[str, str]], kept: Mapping[str, Routed]) -> Decision:
    if not isinstance(decision, Route) or (name := route_file(decision.ref)) not in refused:
        return decision
    reason, words = refused[name]
    return Rejection(decision.ref, decision.uid, reason, words + (KEPT if name in kept else ""))
