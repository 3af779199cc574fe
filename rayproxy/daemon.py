"""The composition root: settings become objects, objects become threads, signals become an exit code."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry

from rayproxy import log, wiring
from rayproxy.admin.server import application, serve
from rayproxy.gateway.speaker import Speaker
from rayproxy.listen import kernel_has_ipv6, parse_listen
from rayproxy.model import Readiness, Route, Snapshot
from rayproxy.nginx.process import ManagedNginx
from rayproxy.nginx.template_loader import TemplateChoice
from rayproxy.nginx.templates import BUILT_IN
from rayproxy.reconcile.loop import Both, Loop, Report, Signals
from rayproxy.reconcile.reconciler import Config, Reconciler
from rayproxy.reconcile.second_look import SecondLook
from rayproxy.report.best_effort import BestEffort
from rayproxy.report.events import Event, Recorder
from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter, event_failed
from rayproxy.settings import IN_CLUSTER, Settings, misspelt
from rayproxy.signals import handled
from rayproxy.sources.filewatcher import watched

HEARTBEAT = 180.0  # s without a turn of the loop after which the process is better started anew
STOP_GRACE = 2.0  # s for a managed nginx to end its streams, and as long again to end at all
PR_SET_DUMPABLE = 4  # prctl(2)
# New objects before Python's collector looks for cycles. With its own 700 it looked, in a change of 5,000 routes,
# twice through all that is held: a fifth of the time, and in vain, for there are hardly any cycles.
GARBAGE = 10_000


class StartError(Exception):
    """Say why the daemon cannot start, and what to do."""


def run(settings: Settings) -> int:
    """Run the daemon until it is told to stop; return its exit code."""
    log.configure(settings.log_level)
    gc.set_threshold(GARBAGE)
    if settings.template == "documented":
        structlog.get_logger().warning("the location template `documented` is called `regex` now")
    for variable, setting in misspelt().items():
        structlog.get_logger().warning("a variable is no setting", variable=variable, meant=setting)
    if IN_CLUSTER:  # nginx shares the pod's processes and must not read the token out of this one
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        wiring.check_access_log(settings)
        with _locked(settings.state):
            return App(settings).run()
    finally:
        log.flush()


class App:
    """Hold the parts of one daemon, which has the state folder to itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failed = False
        self.signals = Signals(threading.Event(), threading.Event(), threading.Event())
        self.metrics = Metrics(CollectorRegistry())
        self.revisions = wiring.make_revisions(settings)
        self.revisions.remove_leftovers()
        self.nginx = wiring.make_nginx(settings, self.signals.stop)
        server = wiring.make_api(settings) if settings.source == "kubernetes" else None
        record: Callable[[Event], None] = _ignore
        self.threads: list[tuple[str, Callable[[], None]]] = []
        if server and settings.events:
            recorder = Recorder(server, partial(event_failed, self.metrics), self.signals.stop)
            record = recorder.record
            self.threads.append(("events", recorder.run))
        file = settings.state / "status.json"
        self.reporter = Reporter(self.metrics, file, record, settings.pending_warning, self._look_behind)
        self.source = wiring.make_source(settings, server, self.reporter, self.signals.wake)
        self.ledger = wiring.make_ledger(settings, server, self.signals.wake.set)
        self.threads.append(("names", self.ledger.run))
        best_effort = partial(BestEffort, self.reporter, said=set())
        self.endpoints = wiring.make_endpoints(settings, server, self.source, best_effort) if server else None
        self.labels = wiring.make_labels(server, (self.signals.wake.set, self.reporter), self.reporter.forget)
        report: Report = self.reporter
        self.speaker: Speaker | None = None
        if server and settings.gateway_class:
            self.speaker, proofs = wiring.make_speaker(settings, server, self.reporter)
            report = Both(self.reporter, proofs)
        elif settings.gateway_class:
            structlog.get_logger().warning("RAYPROXY_GATEWAY_CLASS says nothing to a folder of manifests")
        self.loop = Loop(self._reconciler(), report, self.signals, settings.resync)
        self.last_good = wiring.first_revision(self.revisions, settings)
        self.had_routes = bool(self.revisions.routes(self.last_good))

    def run(self) -> int:
        """Run until a signal, or until a thread dies; return the exit code."""
        if not kernel_has_ipv6():
            structlog.get_logger().info("this kernel has no IPv6: every address means every IPv4 address")
        admin = self._admin()
        threads = [*self.threads, ("admin", admin.serve_forever)]
        threads += self.source.threads
        beside = [each for each in (self.endpoints, self.speaker, self.labels) if each]
        threads += [thread for each in beside for thread in each.threads]
        for name, body in threads:
            threading.Thread(target=self._guard, args=(name, body), name=name, daemon=True).start()
        with handled(self.signals):  # to the end: a second SIGTERM must not leave a managed nginx behind
            with self._watched_files():
                self._guard("loop", self.loop.run)
            admin.server_close()
            self.source.stop()
            for each in beside:
                each.stop()
            if isinstance(self.nginx, ManagedNginx):
                self.nginx.stop(STOP_GRACE)
        return 1 if self.failed else 0

    def healthy(self) -> str | None:
        """Return why the process should be started anew, or None: an API server that is away is no reason."""
        silent = time.monotonic() - self.loop.beat
        return f"the loop has not turned for {silent:.0f} s" if silent > HEARTBEAT else None

    def ready(self) -> str | None:
        """Return why callers should stay away, or None: once a whole snapshot, or the last good one, is served."""
        if self.reporter.served:
            return None
        if self.had_routes and self.nginx.served() == self.last_good.name:
            return None
        return self.reporter.problem

    def _look_behind(self, route: Route) -> Readiness | None:
        return self.endpoints.look(route) if self.endpoints else None

    def _answering(self, route: Route) -> Route:
        return self.endpoints.answering(route) if self.endpoints else route

    def _reconciler(self) -> Reconciler:
        conf = wiring.nginx_conf(self.settings)
        check = partial(wiring.check_template, revisions=self.revisions, nginx=self.nginx, conf=conf)
        template = TemplateChoice(self.settings.template, check)
        policy, grants = wiring.make_policy(self.settings), wiring.make_grants(self.settings, self.labels)

        def look() -> Snapshot:
            snapshot = self.source.confirm()
            grants.confirm()
            return snapshot

        again = SecondLook(look, self.signals.stop, self.signals.wake.set)
        config = Config(policy, conf, template, grants, again.take, self._answering)
        return Reconciler(self.source, self.ledger, self.revisions, self.nginx, config)

    def _admin(self) -> WSGIServer:
        app = application(self.metrics.registry, self.healthy, self.ready, lambda: self.reporter.waits)
        try:
            return serve(parse_listen(self.settings.admin_listen), app)
        except OSError as error:
            raise StartError(
                f"cannot listen on {self.settings.admin_listen}: {error.strerror}; "
                "choose another address with RAYPROXY_ADMIN_LISTEN"
            ) from error

    def _watched_files(self) -> contextlib.AbstractContextManager[None]:
        folders = [] if self.settings.template in BUILT_IN else [Path(self.settings.template).parent]
        folders += [self.settings.name_policy.parent] if self.settings.name_policy else []
        return watched(folders, self.source.watched, self.signals.wake.set, self._guard)

    def _guard(self, name: str, body: Callable[[], None]) -> None:
        """Run a thread's body; a defect in one ends the process, which must not live on blind."""
        try:
            body()
        except BaseException:  # noqa: BLE001 - nothing may pass a thread's end unseen
            words = "a thread died of a defect; the daemon ends (an external nginx goes on)"
            structlog.get_logger().exception(words, thread=name)
            self.failed = True
        self.signals.stop.set()
        self.signals.wake.set()


def _ignore(_: Event) -> None:
    pass


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Hold the state folder for this process alone; raise StartError."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("a+")
    except OSError as error:
        raise StartError(
            f"the state folder {state} cannot be written: {error.strerror}; choose another with RAYPROXY_STATE_DIR"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise StartError(
                f"another rayproxy (pid {lock.read().strip() or 'unknown'}) uses the state folder {state}: "
                "stop it, or choose another folder with RAYPROXY_STATE_DIR"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
