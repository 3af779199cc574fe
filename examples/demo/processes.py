"""Start a command whose whole family of processes can be ended again, and nobody else's."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none is lost from sight."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; it is asked to end when this process dies."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is ours to handle
            preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509 - no threads yet
        )


def end_descendants(patience: float) -> None:
    """Ask all descendants to end, and after `patience` seconds make them."""
    deadline = time.monotonic() + patience
    _signal_all(signal.SIGTERM)
    while _living() and time.monotonic() < deadline:
        time.sleep(0.05)
    while _living():
        _signal_all(signal.SIGKILL)
        time.sleep(0.05)


def _living() -> list[int]:
    """Return the descendants that have not ended, after burying those that have."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return []
    return descendants(os.getpid())


def descendants(pid: int) -> list[int]:
    """Return the ids of the processes that a process has started, and that those have started."""
    children = _children(pid)
    return children + [grandchild for child in children for grandchild in descendants(child)]


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its living descendants have used."""
    return sum(map(_own_cpu_seconds, [pid, *descendants(pid)]))


def _own_cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for thread in Path(f"/proc/{pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []


def _signal_all(number: signal.Signals) -> None:
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # it has just ended
            continue
