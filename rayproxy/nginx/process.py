"""Speak to nginx: test a configuration, signal the master, and prove that a reload took effect.

A reload is not believed because a command returned 0: `nginx -t` passes and HUP is accepted for configurations
that the master then refuses (a port in use, a changed shared zone), and a failed fork leaves no worker at all.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rayproxy.nginx import procfs
from rayproxy.nginx.procfs import Process

POLL = 0.005  # s, between two looks for something that is about to happen
PROOF_POLL = 0.02  # s; the new workers need the processor more than we do
ANSWER_PATIENCE = 1.0  # s for a worker to say which revision it serves
LARGEST_ANSWER = 4096  # bytes
NO_WORKER_PATIENCE = 0.5  # s without a serving worker; a reload never needs so long between old and new
ORPHANS_PATIENCE = 1.0  # s for workers without a master to close their sockets
STARTS_PATIENCE = 4  # times `timeout` for a start to come to its end; what is on its way is not started twice
REFUSED_PATIENCE = 5.0  # s; a master that cannot bind tries 5 times in 2.5 s before it gives up
MASTER_TITLE = b"nginx: master process "
WORKER_TITLE = b"nginx: worker process"
DRAINING_TITLE = WORKER_TITLE + b" is shutting down"

_BLAMED_FILE = re.compile(r"in (?:\S*/)?([a-z0-9][-a-z0-9]*\.conf):[0-9]+")
_PREFIX = re.compile(r".*?\[emerg\] (?:[0-9]+#[0-9]+: )?")


class NginxError(Exception):
    """Say what nginx, or its absence, does not allow."""


class ConfigRefusedError(NginxError):
    """Say what `nginx -t` said; `file` is the file that it blames, if it blames one."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        blamed = _BLAMED_FILE.search(message)
        self.file = blamed[1] if blamed else None


class NotRunningError(NginxError):
    """Say that there is no nginx master to speak to."""


class UnprovenError(NginxError):
    """Say that a reload was asked for and no proof came that it took effect."""


class DrainingError(NginxError):
    """Say that so many workers drain that no more may be added."""


class StoppingError(Exception):
    """Say that the daemon is stopping, so what was under way was abandoned at a safe point."""


class Nginx:
    """Watch over the nginx that runs with `-c <state>/current/nginx.conf`, whoever started it."""

    def __init__(self, binary: str, state: Path, stop: threading.Event, timeout: float = 30.0) -> None:
        self.binary = binary
        self.conf = state / "current" / "nginx.conf"
        self.run_dir = state / "run"
        self.timeout = timeout
        self._stop = stop
        self._test_seconds = 0.0

    def test(self, conf: Path) -> None:
        """Run `nginx -t` on a tree; raise ConfigRefusedError with its words, NginxError where it cannot run."""
        started = time.monotonic()
        # What it would log to is no part of the configuration: an nginx of another container has an output of its own.
        with self._spawn("-t", "-q", "-c", str(conf), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            words = self._words(process, conf)
        self._test_seconds = time.monotonic() - started
        if process.returncode != 0:
            raise ConfigRefusedError(_reason(words) or f"nginx -t exited with {process.returncode}")

    def _spawn(self, *arguments: str, stdout: int | None = None, stderr: int | None = None) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
                [self.binary, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # a Ctrl-C in the terminal is the daemon's alone
            )
        except OSError as error:
            raise NginxError(
                f"nginx cannot be run as {self.binary!r}: {error.strerror}. "
                "Install nginx, or name it with RAYPROXY_NGINX_BINARY"
            ) from error

    def _words(self, process: subprocess.Popen[bytes], conf: Path) -> str:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return process.communicate(timeout=0.2)[1].decode(errors="replace")
            except subprocess.TimeoutExpired:
                if self._stop.is_set():
                    process.kill()
                    raise StoppingError from None
                if time.monotonic() > deadline:
                    process.kill()
                    raise NginxError(f"nginx -t on {conf} did not end within {self.timeout:g} s") from None

    def master(self) -> Process | None:
        """Return the running master: the pid file's if that is true, else found by its command line."""
        pid = self._pid()
        if pid > 0 and (master := self._as_master(pid)):
            return master
        return next((found for pid in procfs.pids() if (found := self._as_master(pid))), None)

    def _pid(self) -> int:
        """Return what the pid file says, 0 for nothing. nginx can write there: a pipe in its place holds nobody up."""
        try:
            with open(self.run_dir / "nginx.pid", "rb", opener=_plain) as file:
                return int(file.read(32)) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else 0
        except (OSError, ValueError):
            return 0

    def _as_master(self, pid: int) -> Process | None:
        """Return the process if it is the master of our configuration: its title is set once it takes signals."""
        title = procfs.title(pid)
        if not title.startswith(MASTER_TITLE) or procfs.comm(pid) != b"nginx":
            return None
        return procfs.identify(pid) if f" {self.conf}".encode() in title else None

    def workers(self, master: Process) -> dict[Process, bool]:
        """Return {worker: is it draining} of a master."""
        return {worker: procfs.title(worker.pid).startswith(DRAINING_TITLE) for worker in procfs.children(master.pid)}

    def draining(self) -> int:
        """Return how many workers drain, 0 where none serves: then no reload is one too many."""
        master = self.master()
        workers = self.workers(master).values() if master else ()
        return 0 if all(workers) else sum(workers)

    def served(self) -> str | None:
        """Ask a worker on a fresh connection which revision it serves; None where nobody answers in time."""
        deadline = time.monotonic() + ANSWER_PATIENCE
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_PATIENCE)
                connection.connect(str(self.run_dir / "revision.sock"))
                connection.sendall(b"GET /revision HTTP/1.0\r\nHost: revision\r\n\r\n")
                while (left := deadline - time.monotonic()) > 0 and len(answer) < LARGEST_ANSWER:
                    connection.settimeout(left)
                    if not (piece := connection.recv(LARGEST_ANSWER)):
                        return answer.partition(b"\r\n\r\n")[2].decode()
                    answer += piece
        except (OSError, UnicodeDecodeError):  # no answer is an answer: whoever asks says what follows from it
            pass
        return None

    def reload(self, revision: str) -> None:
        """Send HUP and return once new workers alone serve `revision`; raise UnprovenError without that proof."""
        master = self.master()
        if master is None:
            raise NotRunningError(f"no nginx runs with -c {self.conf}: start it, it loads that revision by itself")
        old = self.workers(master)
        self._signal(master, signal.SIGHUP)
        started = with_worker = time.monotonic()
        while True:
            serving = {worker for worker, draining in self.workers(master).items() if not draining}
            # The old ones have closed their sockets when they drain, so only a new one can answer now.
            if serving and not serving & old.keys() and self.served() == revision:
                return
            now = time.monotonic()
            with_worker = now if serving else with_worker
            self._give_up(master, revision, now - started, now - with_worker, new=bool(serving - old.keys()))
            if self._stop.wait(PROOF_POLL):
                raise StoppingError

    def _give_up(self, master: Process, revision: str, waited: float, workerless: float, *, new: bool) -> None:
        """Raise when waiting on is of no use."""
        if procfs.identify(master.pid) != master:
            raise NotRunningError(f"the nginx master {master.pid} died during the reload")
        if workerless > NO_WORKER_PATIENCE:
            raise UnprovenError(f"the nginx master {master.pid} has no worker after HUP (fork failed?)")
        if not new and waited > REFUSED_PATIENCE + 10 * self._test_seconds:
            raise UnprovenError(
                f"the nginx master {master.pid} refused revision {revision} that nginx -t had passed "
                "(a port in use? a changed shared zone?): nginx's error log has the reason"
            )
        if waited > self.timeout:
            raise UnprovenError(
                f"nginx did not serve revision {revision} within {self.timeout:g} s of HUP: see nginx's error log"
            )

    def _signal(self, master: Process, number: signal.Signals) -> None:
        try:
            procfs.send(master, number)
        except PermissionError as error:
            raise NginxError(
                f"no permission to signal the nginx master {master.pid}: run both as the same user"
            ) from error
        except ProcessLookupError:
            raise NotRunningError(f"the nginx master {master.pid} is gone") from None


class ManagedNginx(Nginx):
    """Be nginx's parent as well: start it when there is none, adopt one that outlived a killed daemon, stop it."""

    _child: subprocess.Popen[bytes] | None = None
    _starts = False  # the child is on its way, and was no master yet when it was last looked at
    _started = 0.0  # monotonic s

    def ensure_running(self) -> None:
        """Start nginx unless it runs or is on its way; raise NginxError where it does not answer then."""
        self._reap()
        if self.master():
            self._starts = False
            return
        if self._child is None or self._child.returncode is not None or not self._starts:
            self._child = self._start()
        self._await_answer(self._child)
        self._starts = False

    def _start(self) -> subprocess.Popen[bytes]:
        self._end_orphans()
        for stale in ("revision.sock", "nginx.pid"):  # of a master that was killed; nginx would not start over them
            (self.run_dir / stale).unlink(missing_ok=True)
        child = self._spawn("-c", str(self.conf), "-g", "daemon off;")
        self._starts, self._started = True, time.monotonic()
        return child

    def _await_answer(self, child: subprocess.Popen[bytes]) -> None:
        deadline, enough = time.monotonic() + self.timeout, STARTS_PATIENCE * self.timeout
        while self.served() is None:
            if child.poll() is not None:
                raise NotRunningError(
                    f"nginx exited with {child.returncode} at its start; its own words are on stderr above. "
                    "Where they say 'Address already in use', RAYPROXY_LISTEN takes another one"
                )
            if time.monotonic() > deadline:
                if time.monotonic() > self._started + enough:
                    self._end_start(child)
                raise NotRunningError(
                    f"nginx was started and did not answer within {self.timeout:g} s; "
                    f"it is waited for, and started anew where that takes more than {enough:g} s"
                )
            if self._stop.wait(POLL):
                raise StoppingError

    def stop(self, grace: float) -> None:
        """Let streams end for `grace` seconds, then end nginx."""
        self._reap()
        if self._child:
            self._end_start(self._child)
        ending = [master] if (master := self.master()) else self._orphans()
        for number in (signal.SIGQUIT, signal.SIGTERM):
            self._send(ending, number)
            self._wait(grace, lambda: not any(procfs.identify(process.pid) == process for process in ending))

    def _end_start(self, child: subprocess.Popen[bytes]) -> None:
        """End what was started and has become no master, with all that it started itself: it serves nobody."""
        if child.returncode is None and not self.master():  # not waited for: its number is still its group's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            self._wait(ORPHANS_PATIENCE, lambda: child.returncode is not None)

    def _orphans(self) -> list[Process]:
        """Return workers whose master was killed: they serve on, and hold the port that a new one needs."""
        return [
            process
            for process in procfs.holders(self.run_dir / "revision.sock")
            if procfs.title(process.pid).startswith(WORKER_TITLE)
            and not procfs.title(procfs.parent(process.pid)).startswith(MASTER_TITLE)
        ]

    def _end_orphans(self) -> None:
        """Let orphans close their sockets, and finish their streams as in a reload."""
        orphans = self._orphans()
        self._send(orphans, signal.SIGQUIT)
        self._wait(
            ORPHANS_PATIENCE,
            lambda: (
                not any(
                    procfs.identify(orphan.pid) == orphan and not procfs.title(orphan.pid).startswith(DRAINING_TITLE)
                    for orphan in orphans
                )
            ),
        )

    def _send(self, processes: list[Process], number: signal.Signals) -> None:
        for process in processes:
            with contextlib.suppress(OSError):
                procfs.send(process, number)

    def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            self._reap()
            time.sleep(POLL)

    def _reap(self) -> None:
        if self._child:
            self._child.poll()


def _plain(path: str, flags: int) -> int:
    """Open a file that need not be one: without following links, and without waiting for a pipe's other end."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _reason(words: str) -> str:
    """Return the lines that say what is wrong, without nginx's own prefix."""
    lines = [_PREFIX.sub("", line) for line in words.splitlines() if "[emerg]" in line]
    return "; ".join(lines) or words.strip()[-500:]
