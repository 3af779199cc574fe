"""Reconcile: make what nginx serves equal to what the source wishes. `run_once` is the whole design."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from rayproxy.accept import accept
from rayproxy.model import Decision, Rejection, Route, Snapshot
from rayproxy.nginx import ConfigRefusedError, Nginx, UnprovenError
from rayproxy.plan import Changes, plan, vanishes_at_once
from rayproxy.rayservice import Policy, decide
from rayproxy.render import BASE, FIXED, File, NginxSettings, render, render_base, route_file
from rayproxy.revisions import Revision, Revisions
from rayproxy.source import Source
from rayproxy.templates import BUILT_IN, LocationTemplate

LARGE = 1000  # routes; below, nginx -t on the whole takes some 30 ms


@dataclass(frozen=True)
class Rules:
    """Hold what an operator decided; `template` returns the location template to use now and what is wrong with it."""

    policy: Policy
    nginx: NginxSettings
    template: Callable[[], tuple[LocationTemplate, tuple[str, ...]]]


@dataclass(frozen=True)
class Desired:
    """Hold what should be served, and what was decided on the way to it."""

    decisions: tuple[Decision, ...]
    files: dict[str, File]
    ages: Mapping[str, str]  # route file -> creationTimestamp of its RayService
    problems: tuple[str, ...]
    independent: bool  # no route's file can collide with another's: the template is one of our own


@dataclass(frozen=True)
class Outcome:
    """Say what a cycle found and did."""

    decisions: tuple[Decision, ...]
    problems: tuple[str, ...]
    revision: str
    changes: Changes
    reloaded: bool


class Reconciler:
    """Hold the parts together. What is live is never remembered here, it is read back each time."""

    def __init__(self, source: Source, revisions: Revisions, nginx: Nginx, rules: Rules) -> None:
        self.source = source
        self.revisions = revisions
        self.nginx = nginx
        self.rules = rules
        self._refused: dict[str, tuple[str, str]] = {}  # file -> (digest, nginx's words): not tried twice as it is

    def run_once(self, *, resync: bool = False) -> Outcome:
        """Observe, desire, read current, plan, accept, apply.

        Raises whatever is wrong with the world (source, template, disk, nginx); what was served then still is.
        """
        current = self._current(resync=resync)
        whole = current is None or current.whole
        try:
            desired, changes = self._planned(current)
            candidate, desired = (
                self._accept(desired, current, changes) if changes or not whole else (current, desired)
            )
        except Exception:
            self._mend(current)  # whatever is unknown or cannot be written, what is live is served
            raise
        reloaded = candidate is not None and self._apply(candidate, current)
        reloaded |= self._mend(candidate)
        return Outcome(desired.decisions, desired.problems, candidate.name if candidate else "", changes, reloaded)

    def _planned(self, current: Revision | None) -> tuple[Desired, Changes]:
        live = current.sums if current else {}
        desired = self._desire(self.source.snapshot(), current)
        changes = plan(live, _digests(desired))
        if vanishes_at_once(live, changes):
            desired = self._desire(self.source.confirm(), current)
            changes = plan(live, _digests(desired))
        return desired, changes

    def _mend(self, current: Revision | None) -> bool:
        """Reload where nginx serves something else than the live revision: restarted, or without a worker."""
        if current is None or self.nginx.served() == current.name:
            return False
        self.nginx.reload(current.name)
        return True

    def _current(self, *, resync: bool) -> Revision | None:
        """Read the live revision; at a resync every byte of it, and what nginx refused gets another chance."""
        current = self.revisions.current()
        if not resync:
            return current
        self._refused.clear()
        return current if current is None or self.revisions.intact(current) else self.revisions.salvage(current)

    def _desire(self, snapshot: Snapshot, current: Revision | None) -> Desired:
        template, problems = self.rules.template()
        decisions = decide(snapshot, self.rules.policy)
        files = render(decisions, template, self.rules.nginx)
        if current and not snapshot.rayservices_known:
            files = self._unknown(snapshot, current, files) | files
        ages = {route_file(rs.key.name): rs.created for rs in snapshot.rayservices}
        desired = Desired(
            tuple(decisions), files, ages, problems + snapshot.problems, independent=template.name in BUILT_IN
        )
        return self._without_refused(desired, current)

    def _unknown(self, snapshot: Snapshot, current: Revision, files: Iterable[str]) -> dict[str, File]:
        """Return the live routes that are not desired only because not everything could be read."""
        missing = [name for name in current.sums.keys() - set(files) if name.startswith("ray-")]
        held = self.revisions.files(current, missing)
        if not snapshot.services_known:
            return held
        addresses = {service.cluster_ip for service in snapshot.services}
        return {
            name: file
            for name, file in held.items()
            if addresses & set(re.findall(r"[0-9a-f.:]{2,}(?=:\d|])", file.text))
        }

    def _without_refused(self, desired: Desired, current: Revision | None) -> Desired:
        """Put the last good version, or nothing, in the place of each file that nginx refused as it is."""
        refused = {
            name: words
            for name, (digest, words) in self._refused.items()
            if name in desired.files and desired.files[name].digest == digest
        }
        if not refused:
            return desired
        kept = self.revisions.files(current, refused.keys() & current.sums.keys()) if current else {}
        decisions = tuple(_refuse(decision, refused, kept) for decision in desired.decisions)
        files = {name: file for name, file in desired.files.items() if name not in refused}
        return replace(
            desired,
            decisions=decisions,
            files=files | kept | render_base(decisions, self.rules.nginx),
        )

    def _accept(self, desired: Desired, current: Revision | None, changes: Changes) -> tuple[Revision, Desired]:
        """Write the desired revision and test it; leave out what nginx refuses, and only that."""
        try:
            return self._tested(desired.files, current, _suspects(desired, current, changes)), desired
        except ConfigRefusedError as error:
            wishes = [name for name in (*changes.update, *changes.create) if name.startswith("ray-")]
            if not wishes:
                raise
            first_words = error
        start = {name: file for name, file in desired.files.items() if name not in wishes}
        if current:
            start |= self.revisions.files(current, current.sums.keys() & set(wishes))
        wishes.sort(key=lambda name: (desired.ages.get(name) or "~", name))  # oldest first: the younger one loses
        _, refused = accept(
            lambda files: self.revisions.discard(self._tested(files, current)), start, wishes, desired.files
        )
        if not refused:  # what failed a moment ago passes now: the world outside the files changed
            raise first_words
        self._refused |= {name: (desired.files[name].digest, words) for name, words in refused.items()}
        desired = self._without_refused(desired, current)
        return self._tested(desired.files, current), desired

    def _tested(
        self, files: Mapping[str, File], current: Revision | None, suspects: Mapping[str, File] | None = None
    ) -> Revision:
        """Write a revision and return it if nginx -t passes on it, or on the suspects among its files alone."""
        candidate = self.revisions.write(files, current)
        tested = candidate if suspects is None else self.revisions.write(suspects, current)
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
        self.revisions.settle()
        self.revisions.prune()
        return True


def _suspects(desired: Desired, current: Revision | None, changes: Changes) -> dict[str, File] | None:
    """Return what must be tested of a large revision, or None for all of it.

    nginx has loaded the unchanged files already, and with our own templates no two files can collide. With 5,000
    routes, testing all of them again costs as long as the reload, and the reload proves the whole tree anyway.
    """
    if current is None or not current.whole or not desired.independent or len(desired.files) < LARGE:
        return None
    if not set(FIXED).isdisjoint(changes.names):
        return None
    return {
        name: file for name, file in desired.files.items() if name in BASE or current.sums.get(name) != file.digest
    }


def _digests(desired: Desired) -> dict[str, str]:
    return {name: file.digest for name, file in desired.files.items()}


def _refuse(decision: Decision, refused: Mapping[str, str], kept: Mapping[str, File]) -> Decision:
    name = route_file(decision.key.name)
    if not isinstance(decision, Route) or name not in refused:
        return decision
    until = "; its last good version goes on being served" if name in kept else ""
    return Rejection(
        decision.key, decision.uid, "RefusedByNginx", f"nginx -t refuses its route: {refused[name]}{until}"
    )
