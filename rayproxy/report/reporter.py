"""Tell everyone how a cycle ended: metrics, the status file, Events, and one log line where something changed."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from rayproxy.model import Readiness, Ref, Route
from rayproxy.nginx.process import DrainingError, NginxError, UnprovenError
from rayproxy.nginx.templates import TemplateError
from rayproxy.objects import rfc3339
from rayproxy.reconcile.damping import TOO_OFTEN
from rayproxy.reconcile.reconciler import Outcome
from rayproxy.report import status
from rayproxy.report.allowance import Allowance
from rayproxy.report.behind import HOLD, UNAVAILABLE, Looks, Turns
from rayproxy.report.events import Event, about, turned
from rayproxy.report.happenings import is_due
from rayproxy.report.metrics import Metrics
from rayproxy.report.status import ACCEPTED, PENDING, Status
from rayproxy.report.told import Told
from rayproxy.sources.base import MissingSourceError, NotSyncedError, UnconfirmedError

_FULL, _FILES = ": is the disk of {state} full or read-only?", ": raise the limit of open files (ulimit -n)"
_HINTS = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EROFS: _FULL, errno.EMFILE: _FILES, errno.ENFILE: _FILES,
}  # fmt: skip
_LASTING = ("not_found", "forbidden")
MAX_REFUSALS = 1000  # an API server may say each time something else
_WORLD = (NginxError, NotSyncedError, UnconfirmedError, TemplateError, OSError)


class Reporter:
    """Hold what was last told, so that nothing is told twice."""

    def __init__(
        self,
        metrics: Metrics,
        status_file: Path,
        record: Callable[[Event], None],
        pending_warning: float,
        look: Callable[[Route], Readiness | None] = lambda _: None,
    ) -> None:
        self.served = ""  # the revision that nginx is proven to serve, from a whole snapshot
        self.problem = "starting"
        self.waits = ""  # why changes wait though all is well
        self._metrics = metrics
        self._file = status_file
        self._record = record
        self._pending_warning = pending_warning
        before = status.read(status_file)
        self._statuses = {ref: replace(entry, behind=None) for ref, entry in before.items()}
        behind = {ref: entry.behind for ref, entry in before.items() if entry.behind}
        self._looks = Looks(look, behind)
        told = (ref for ref, each in behind.items() if each.state == UNAVAILABLE and _age(each.since) > HOLD)
        self._turns = Turns(told)
        self._written = False
        self._pending: dict[tuple[Ref, str], float] = {}  # since when, in monotonic s: the wall clock may be set
        self._warned: set[tuple[Ref, str]] = set()
        self._reminded = time.time()
        self._problems = Told()
        self._failure = ""
        self._refusals: set[str] = set()
        self._dated: set[str] = set()  # resources of which it is said when they were last heard of
        self._silent: dict[str, set[str]] = {}  # resource -> what was told since it was last heard from
        self._allowance = Allowance()
        self._log = structlog.get_logger()

    def done(self, outcome: Outcome, seconds: float, waited: float | None) -> None:
        """Report a cycle that ended well."""
        metrics = self._metrics
        metrics.duration.observe(seconds)
        metrics.reload_successful.set(1)
        if self._failure or (self.waits and not outcome.waits):
            self._log.info("recovered")
        self._note_wait(outcome.waits)
        metrics.problems.set(len(outcome.problems))
        if outcome.reloaded:
            metrics.reloads.labels("success").inc()
            metrics.reload_time.set_to_current_time()
            if waited is not None:
                metrics.propagation.observe(waited)
        self.served, self.problem, self._failure = outcome.revision, "", ""
        self._take(outcome)
        if outcome.changes or outcome.reloaded:
            self._log.info("reconciled", revision=outcome.revision, reloaded=outcome.reloaded, **self._counts(outcome),
                           seconds=round(seconds, 3))  # fmt: skip
        for problem in self._problems.news(outcome.problems, time.monotonic()):
            self._log.warning("source problem", problem=problem)

    def failed(self, error: Exception) -> None:
        """Report a cycle that changed nothing because the world is broken; the same failure is logged once."""
        if isinstance(error, UnprovenError):
            self._metrics.reloads.labels("failure").inc()
        if isinstance(error, NotSyncedError):
            self._metrics.problems.set(1)
        else:
            # where changes wait for room nothing has failed: an alarm of its own says so, also after a restart
            self._metrics.reload_successful.set(isinstance(error, DrainingError))
        self.problem = _words(error, self._file.parent)
        self._note_wait(self.problem if isinstance(error, DrainingError) else "")
        if self.problem in (self._failure, self.waits):
            return
        self._failure = self.problem
        if isinstance(error, NotSyncedError):
            tell = self._log.warning if isinstance(error, MissingSourceError) else self._log.info
            tell("waiting", reason=self.problem)
        elif isinstance(error, _WORLD):
            self._log.error("not reconciled; what was served still is", error=self.problem)
        else:
            self._log.error("not reconciled by a defect; what was served still is", exc_info=error)

    def _note_wait(self, words: str) -> None:
        if words and words != self.waits:
            self._log.warning("changes wait; what was served still is", reason=words)
        self.waits = words
        self._metrics.waits.set(bool(words))

    def nginx(self, workers: int, draining: int) -> None:
        """Report nginx's workers, and what time alone changes: how long something has been pending."""
        self._metrics.workers.labels("serving").set(workers)
        self._metrics.workers.labels("draining").set(draining)
        self._look_at_pending()
        self._look_behind()
        self._remind()

    def contact(self, resource: str) -> None:
        """Note an answer of the source."""
        self._date(resource)
        if self._silent.pop(resource, None):
            self._log.info("source answers again", resource=resource)

    def failure(self, resource: str, reason: str, message: str) -> None:
        """Note a failed list or watch; the same words are told once, until the source answers again.

        What time alone does not mend (no CRD, no permission) is told once for ever. What fails and answers in turns,
        as where lists are good and watches are not, is told of as an object that changes in turns; of the namespaces
        and gateways that share a resource each by itself.
        """
        if reason in _LASTING or resource not in self._dated:  # a refusal is an answer; silence begins with a failure
            self._date(resource)
        if message in self._refusals and reason == "not_found":
            return
        self._metrics.watch_failures.labels(resource, reason).inc()
        lasts = reason in _LASTING
        told = self._refusals if lasts else self._silent.setdefault(resource, set())
        if message in told or not (lasts or self._allowance.take((resource, _asked(message)), time.monotonic())):
            return
        self._log.warning("source failed; what is known goes on being served", resource=resource, error=message)
        if len(told) < MAX_REFUSALS:
            told.add(message)

    def forget(self, resource: str) -> None:
        """Note that nothing is asked of a resource any more, so that nobody waits for its answer."""
        self._dated.discard(resource)
        self._silent.pop(resource, None)
        self._metrics.contact.remove(resource)

    def repaired(self, resource: str, count: int) -> None:
        """Note that a relist found what the watch had not told."""
        self._metrics.repairs.labels(resource).inc(count)
        self._log.warning("a relist found what the watch had not told", resource=resource, objects=count)

    def _date(self, resource: str) -> None:
        self._dated.add(resource)
        self._metrics.contact.labels(resource).set_to_current_time()

    def _take(self, outcome: Outcome) -> None:
        kept = status.kept(outcome.kept, self._statuses, _now())
        found = kept | status.statuses(outcome.decisions, self._statuses, _now())
        self._metrics.count(entry.state for entry in found.values())
        self._looks.take((*outcome.decisions, *outcome.kept))
        self._looks.again(_now())
        if found == self._statuses and not self._looks.changed and self._written and self._file.exists():
            return
        self._written = False
        for ref, entry in found.items():
            before = self._statuses.get(ref)
            if _is_news(entry, before):
                self._announce(entry, before.state if before and before.uid == entry.uid else "")
        for ref in self._statuses.keys() - found.keys():
            self._log.info("route gone", **_name(ref))
        self._statuses = found
        self._warned = {(ref, since) for ref, since in self._warned if ref in found and found[ref].since == since}
        self._write()

    def _write(self) -> None:
        self._written = False
        self._metrics.answering(self._looks.found)
        status.write(self._file, {ref: self._whole(entry) for ref, entry in self._statuses.items()})
        self._written = True

    def _whole(self, entry: Status) -> Status:
        return replace(entry, behind=self._looks.found.get(entry.ref))

    def _look_behind(self) -> None:
        """Look at who answers; a disk that takes no file is for the next cycle to tell of."""
        started = time.monotonic()
        if not self.served or not self._looks.again(_now()):
            return
        if self._looks.changed:
            with contextlib.suppress(OSError):
                self._write()
        for turn in self._turns.due(self._looks, time.monotonic()):
            self._record(turned(turn, self._statuses[turn.ref].uid))
            write = self._log.warning if turn.state == UNAVAILABLE else self._log.info
            write(f"route {turn.state}", **_name(turn.ref), words=turn.words)
        self._looks.rest(time.monotonic() - started)

    def _announce(self, entry: Status, before: str) -> None:
        if entry.message == status.KEPT:  # no Event: the object may be gone
            self._log.info("route kept", **_name(entry.ref), backend=entry.backend, message=entry.message)
            return
        if event := about(entry, before):
            self._record(event)
        write = self._log.warning if entry.state in (status.REJECTED, status.REFUSED) else self._log.info
        detail = (
            {"backend": entry.backend}
            if entry.state == ACCEPTED
            else {"reason": entry.reason, "message": entry.message}
        )
        write(f"route {entry.state}", **_name(entry.ref), **detail)

    def _look_at_pending(self) -> None:
        if not self.served:  # what an earlier daemon left may be routed, or gone, meanwhile
            return
        now, longest = time.monotonic(), 0.0
        pending = {(ref, entry.since): entry for ref, entry in self._statuses.items() if entry.state == PENDING}
        self._pending = {which: self._pending.get(which) or now - _age(which[1]) for which in pending}
        for which, entry in pending.items():
            age = now - self._pending[which]
            longest = max(longest, age)
            if age > self._pending_warning and which not in self._warned:
                self._warned.add(which)
                if event := about(entry, too_long=True):
                    self._record(event)
                self._log.warning("pending too long", **_name(entry.ref), since=entry.since, message=entry.message)
        self._metrics.pending_longest.set(longest)

    def _remind(self) -> None:
        """Tell again what goes on to be wrong, before the API server forgets that it was told."""
        last, self._reminded = self._reminded, time.time()
        for entry in self._statuses.values() if self.served else ():
            event = self._lasting(entry)
            if event and is_due(entry.uid, last, self._reminded):
                self._record(event)

    def _lasting(self, entry: Status) -> Event | None:
        """Return the Event for what goes on to be wrong with an object."""
        if entry.state in (status.REJECTED, status.REFUSED):
            return about(entry)
        if entry.state == PENDING:
            return about(entry, too_long=True) if (entry.ref, entry.since) in self._warned else None
        turn = self._turns.lasting(entry.ref, self._looks)
        return turned(turn, entry.uid) if turn else None

    def _counts(self, outcome: Outcome) -> dict[str, int]:
        changes = outcome.changes
        return {
            "created": len(changes.create),
            "updated": len(changes.update),
            "deleted": len(changes.delete),
        }


def event_failed(metrics: Metrics, message: str) -> None:
    """Note an Event that could not be written."""
    metrics.events_failed.inc()
    structlog.get_logger().warning("Event not written", error=message)


def _is_news(entry: Status, before: Status | None) -> bool:
    """Tell whether a state is announced: not what an object that changes too often changes to while it waits."""
    waits = before is not None and entry.reason == before.reason == TOO_OFTEN
    return entry != before and not waits


def _name(ref: Ref) -> dict[str, str]:
    """Return the field that names an object in a line of the log."""
    return {ref.kind: str(ref)}


def _words(error: Exception, state: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}{_HINTS.get(error.errno or 0, '').format(state=state)}"
    return str(error) or type(error).__name__


def _asked(message: str) -> str:
    """Return what was asked for, `GET PATH`, however it failed: there are as many as the settings name."""
    return " ".join(message.split(maxsplit=2)[:2]).rstrip(":")


def _now() -> str:
    return rfc3339(time.time())


def _age(since: str) -> float:
    try:
        return max(0.0, time.time() - dt.datetime.fromisoformat(since).timestamp())
    except ValueError:
        return 0.0
