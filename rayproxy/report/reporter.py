"""Tell everyone how a cycle ended: metrics, the status file, Events, and one log line where something changed."""

from __future__ import annotations

import datetime as dt
import errno
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from rayproxy.model import Ref
from rayproxy.nginx.process import NginxError, UnprovenError
from rayproxy.nginx.templates import TemplateError
from rayproxy.reconcile.reconciler import Outcome
from rayproxy.report import status
from rayproxy.report.events import Event, about
from rayproxy.report.metrics import Metrics
from rayproxy.report.status import ACCEPTED, PENDING, Status
from rayproxy.sources.base import NotSyncedError, UnconfirmedError

_FULL, _FILES = ": is the disk full or read-only?", ": raise the limit of open files (ulimit -n)"
_HINTS = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EROFS: _FULL, errno.EMFILE: _FILES, errno.ENFILE: _FILES,
}  # fmt: skip
_WORLD = (NginxError, NotSyncedError, UnconfirmedError, TemplateError, OSError)


class Reporter:
    """Hold what was last told, so that nothing is told twice."""

    def __init__(
        self, metrics: Metrics, status_file: Path, record: Callable[[Event], None], pending_warning: float
    ) -> None:
        self.served = ""  # the revision that nginx is proven to serve, from a whole snapshot
        self.problem = "starting"
        self._metrics = metrics
        self._file = status_file
        self._record = record
        self._pending_warning = pending_warning
        self._statuses = status.read(status_file)
        self._written = False
        self._warned: set[tuple[Ref, str]] = set()
        self._problems: tuple[str, ...] = ()
        self._failure = ""
        self._log = structlog.get_logger()

    def done(self, outcome: Outcome, seconds: float, waited: float | None) -> None:
        """Report a cycle that ended well."""
        metrics = self._metrics
        metrics.duration.observe(seconds)
        metrics.reload_successful.set(1)
        metrics.problems.set(len(outcome.problems))
        if outcome.reloaded:
            metrics.reloads.labels("success").inc()
            metrics.reload_time.set_to_current_time()
            if waited is not None:
                metrics.propagation.observe(waited)
        if self._failure:
            self._log.info("recovered")
        self.served, self.problem, self._failure = outcome.revision, "", ""
        self._take(outcome)
        if outcome.changes or outcome.reloaded:
            self._log.info("reconciled", revision=outcome.revision, reloaded=outcome.reloaded, **self._counts(outcome),
                           seconds=round(seconds, 3))  # fmt: skip
        if outcome.problems != self._problems:
            for problem in outcome.problems:
                self._log.warning("source problem", problem=problem)
            self._problems = outcome.problems

    def failed(self, error: Exception) -> None:
        """Report a cycle that changed nothing because the world is broken; the same failure is logged once."""
        if isinstance(error, UnprovenError):
            self._metrics.reloads.labels("failure").inc()
        if not isinstance(error, NotSyncedError):
            self._metrics.reload_successful.set(0)
        self.problem = _words(error)
        if self.problem == self._failure:
            return
        self._failure = self.problem
        if isinstance(error, NotSyncedError):
            self._log.info("waiting", reason=self.problem)
        elif isinstance(error, _WORLD):
            self._log.error("not reconciled; what was served still is", error=self.problem)
        else:
            self._log.error("not reconciled by a defect; what was served still is", exc_info=error)

    def nginx(self, workers: int, draining: int) -> None:
        """Report nginx's workers, and what time alone changes: how long something has been pending."""
        self._metrics.workers.labels("serving").set(workers)
        self._metrics.workers.labels("draining").set(draining)
        self._look_at_pending()

    def contact(self, resource: str) -> None:
        """Note an answer of the source."""
        self._metrics.contact.labels(resource).set_to_current_time()

    def failure(self, resource: str, reason: str, message: str) -> None:
        """Note a failed list or watch."""
        self._metrics.watch_failures.labels(resource, reason).inc()
        self._log.warning("source failed; what is known goes on being served", resource=resource, error=message)

    def repaired(self, resource: str, count: int) -> None:
        """Note that a relist found what the watch had not told."""
        self._metrics.repairs.labels(resource).inc(count)
        self._log.warning("a relist found what the watch had not told", resource=resource, objects=count)

    def _take(self, outcome: Outcome) -> None:
        found = status.statuses(outcome.decisions, self._statuses, _now())
        self._metrics.count(entry.state for entry in found.values())
        if found == self._statuses and self._written and self._file.exists():
            return
        self._written = False
        for ref, entry in found.items():
            if entry != self._statuses.get(ref):
                self._announce(entry)
        for ref in self._statuses.keys() - found.keys():
            self._log.info("route gone", **_name(ref))
        self._statuses = found
        status.write(self._file, found)
        self._written = True

    def _announce(self, entry: Status) -> None:
        if event := about(entry):
            self._record(event)
        write = self._log.warning if entry.state in (status.REJECTED, status.REFUSED) else self._log.info
        detail = (
            {"backend": entry.backend}
            if entry.state == ACCEPTED
            else {"reason": entry.reason, "message": entry.message}
        )
        write(f"route {entry.state}", **_name(entry.ref), **detail)

    def _look_at_pending(self) -> None:
        longest = 0.0
        for ref, entry in self._statuses.items():
            if entry.state != PENDING:
                continue
            age = _age(entry.since)
            longest = max(longest, age)
            if age > self._pending_warning and (ref, entry.since) not in self._warned:
                self._warned.add((ref, entry.since))
                if event := about(entry, too_long=True):
                    self._record(event)
                self._log.warning("pending too long", **_name(ref), since=entry.since, message=entry.message)
        self._metrics.pending_longest.set(longest)

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


def _name(ref: Ref) -> dict[str, str]:
    """Return the field that names an object in a line of the log."""
    return {ref.kind: str(ref)}


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}{_HINTS.get(error.errno or 0, '')}"
    return str(error) or type(error).__name__


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _age(since: str) -> float:
    try:
        return max(0.0, time.time() - dt.datetime.fromisoformat(since).timestamp())
    except ValueError:
        return 0.0
