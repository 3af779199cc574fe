"""The loop around run_once: wait for a change, a resync or a dying nginx, and try again after a failure."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

import structlog

from rayproxy.nginx.process import ManagedNginx, NginxError, NotRunningError, StoppingError, UnprovenError
from rayproxy.nginx.procfs import Process
from rayproxy.reconcile.backoff import Backoff
from rayproxy.reconcile.debounce import Pace
from rayproxy.reconcile.reconciler import Outcome, Reconciler
from rayproxy.reconcile.room import Space, space

TICK = 0.25  # s; how soon a dead nginx is seen
RETRY_CAP = 60.0  # s
NGINX_CAP = 5.0  # s between attempts to start nginx or to give it workers: nobody is served meanwhile


class Report(Protocol):
    """Be told how each cycle ended."""

    def done(self, outcome: Outcome, seconds: float, waited: float | None) -> None:
        """Take a cycle's outcome, how long it took, and how long ago the first change behind it came."""

    def failed(self, error: Exception) -> None:
        """Take what ended a cycle."""

    def nginx(self, workers: int, draining: int) -> None:
        """Take how many workers serve and how many drain."""


@dataclass(frozen=True)
class Both:
    """Tell two."""

    first: Report
    second: Report

    def done(self, outcome: Outcome, seconds: float, waited: float | None) -> None:
        """Take a cycle's outcome, how long it took, and how long ago the first change behind it came."""
        self.first.done(outcome, seconds, waited)
        self.second.done(outcome, seconds, waited)

    def failed(self, error: Exception) -> None:
        """Take what ended a cycle."""
        self.first.failed(error)
        self.second.failed(error)

    def nginx(self, workers: int, draining: int) -> None:
        """Take how many workers serve and how many drain."""
        self.first.nginx(workers, draining)
        self.second.nginx(workers, draining)


@dataclass
class Signals:
    """Hold the flags that wake and end the loop; `resync` asks for a full cycle."""

    wake: threading.Event
    stop: threading.Event
    resync: threading.Event


class Loop:
    """Run cycles until stopped."""

    def __init__(self, reconciler: Reconciler, report: Report, signals: Signals, resync: float) -> None:
        self.beat = time.monotonic()
        self._reconciler = reconciler
        self._nginx = reconciler.nginx
        self._report = report
        self._signals = signals
        self._resync = resync
        self._resync_at = time.monotonic() + resync
        self._pace = Pace()
        self._retry = Backoff(RETRY_CAP)
        self._start = Backoff(NGINX_CAP)  # of its own: a source that has failed for long must not keep nginx down
        self._heal = Backoff(NGINX_CAP)
        self._master: Process | None = None
        self._space = Space.ENOUGH
        self._again: float | None = None  # when changes may go that wait

    def run(self) -> None:
        """Run until stopped."""
        self._pace.changed(time.monotonic())
        while not self._signals.stop.is_set():
            self.beat = time.monotonic()
            if self._signals.wake.is_set() or self._wait_is_over():
                self._signals.wake.clear()
                self._pace.changed(self.beat)
            try:
                if self._due():
                    self._cycle()
            except StoppingError:
                return
            self._signals.wake.wait(self._pause())

    def _wait_is_over(self) -> bool:
        """Tell, once, that changes may go that had to wait."""
        over = self._again is not None and self.beat >= self._again
        self._again = None if over else self._again
        return over

    def _due(self) -> bool:
        try:
            if self._look_at_nginx():
                return True
        except OSError as error:  # no file descriptor is left, say: what cannot be seen is left alone
            if not self._retry.waits:
                self._failed(error)
            return False
        now = time.monotonic()
        due = self._pace.due(now, crowded=self._space is Space.SCARCE)
        moments = (due, self._retry.at, self._resync_at, now if self._signals.resync.is_set() else None)
        return any(moment is not None and now >= moment for moment in moments)

    def _pause(self) -> float:
        now = time.monotonic()
        due = self._pace.due(now, crowded=self._space is Space.SCARCE)
        return TICK if due is None else min(TICK, max(0.0, due - now))

    def _cycle(self) -> None:
        started = time.monotonic()
        resync = self._signals.resync.is_set() or started >= self._resync_at
        if resync:
            self._signals.resync.clear()
            self._resync_at = started + self._resync
        first = self._pace.take()
        try:
            outcome = self._reconciler.run_once(resync=resync)
            self._again = outcome.again
            if outcome.reloaded:
                self._pace.reloaded(time.monotonic())
            now = time.monotonic()
            self._report.done(outcome, now - started, None if first is None else now - first)
        except StoppingError:
            raise
        except Exception as error:  # noqa: BLE001 - the one place where a broken world is handled
            self._failed(error)
            if resync:
                self._resync_at = self._retry.at or self._resync_at  # what it should have mended is still there
            return
        self._retry.worked()

    def _failed(self, error: Exception) -> None:
        if self._start.at is None or not isinstance(error, NotRunningError):  # else it was said why it does not run
            self._report.failed(error)
        self._retry.failed()
        if isinstance(error, UnprovenError):
            self._pace.reloaded(time.monotonic())  # callers paid for it all the same

    def _look_at_nginx(self) -> bool:
        """Keep a managed nginx running; tell whether nginx is another one than before, or has lost its workers."""
        if isinstance(self._nginx, ManagedNginx) and not self._start.waits:
            try:
                self._nginx.ensure_running()
                self._start.worked()
            except NginxError as error:
                self._report.failed(error)
                self._start.failed()
                return False
        master = self._nginx.master()
        workers = self._nginx.workers(master) if master else {}
        draining = sum(workers.values())
        self._report.nginx(len(workers) - draining, draining)
        changed = master != self._master
        if changed:
            _tell_of_nginx(self._master, master)
        self._master = master
        room = self._has_room_again(draining)
        return master is not None and (changed or room or self._must_heal(workerless=draining == len(workers)))

    def _has_room_again(self, draining: int) -> bool:
        """Note how many workers drain; tell whether a reload may be possible that was not."""
        most = self._reconciler.config.nginx.settings.max_draining
        before, self._space = self._space, space(draining, most)
        return self._space < before

    def _must_heal(self, *, workerless: bool) -> bool:
        if not workerless:
            self._heal.worked()
        elif not self._heal.waits:
            self._heal.failed()
            return True
        return False


def _tell_of_nginx(before: Process | None, now: Process | None) -> None:
    """Log that nginx runs, has ended, or was started anew: nothing else says that it died."""
    log = structlog.get_logger()
    if not before:
        log.info("nginx runs", pid=now and now.pid)
    elif not now:
        log.warning("nginx has ended", pid=before.pid)
    else:
        log.warning("nginx has ended, and another one runs", pid=now.pid, before=before.pid)
