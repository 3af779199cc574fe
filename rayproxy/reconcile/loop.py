"""The loop around run_once: wait for a change, a resync or a dying nginx, and try again after a failure."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from rayproxy.nginx.process import ManagedNginx, NginxError, NotRunningError, StoppingError, UnprovenError
from rayproxy.nginx.procfs import Process
from rayproxy.reconcile.backoff import Backoff
from rayproxy.reconcile.debounce import Pace
from rayproxy.reconcile.reconciler import Outcome, Reconciler

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
        self._crowded = False

    def run(self) -> None:
        """Run until stopped."""
        self._pace.changed(time.monotonic())
        while not self._signals.stop.is_set():
            self.beat = time.monotonic()
            if self._signals.wake.is_set():
                self._signals.wake.clear()
                self._pace.changed(self.beat)
            try:
                if self._due():
                    self._cycle()
            except StoppingError:
                return
            self._signals.wake.wait(self._pause())

    def _due(self) -> bool:
        try:
            if self._look_at_nginx():
                return True
        except OSError as error:  # no file descriptor is left, say: what cannot be seen is left alone
            if not self._retry.waits:
                self._failed(error)
            return False
        now = time.monotonic()
        due = self._pace.due(now, crowded=self._crowded)
        moments = (due, self._retry.at, self._resync_at, now if self._signals.resync.is_set() else None)
        return any(moment is not None and now >= moment for moment in moments)

    def _pause(self) -> float:
        now = time.monotonic()
        due = self._pace.due(now, crowded=self._crowded)
        return TICK if due is None else min(TICK, max(0.0, due - now))

    def _cycle(self) -> None:
        started = time.monotonic()
        resync = self._signals.resync.is_set() or started >= self._resync_at
        if resync:
            self._signals.resync.clear()
            self._resync_at = started + self._resync
        first = self._pace.took()
        try:
            outcome = self._reconciler.run_once(resync=resync)
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
        self._crowded = draining > 2 * self._reconciler.rules.nginx.settings.workers
        changed, self._master = master != self._master, master
        return master is not None and (changed or self._must_heal(workerless=draining == len(workers)))

    def _must_heal(self, *, workerless: bool) -> bool:
        if not workerless:
            self._heal.worked()
        elif not self._heal.waits:
            self._heal.failed()
            return True
        return False
