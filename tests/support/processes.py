"""What /proc says of nginx's processes, for tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.daemon import Daemon


def title(pid: int) -> str:
    """Return the command line, or "" for a process that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    return title(pid) != ""


def children(pid: int) -> list[int]:
    """Return the living children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == str(pid) and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def workers(daemon: Daemon) -> list[int]:
    """Return the workers that serve, without those that drain."""
    return [pid for pid in children(daemon.nginx_pid()) if title(pid).startswith("nginx: worker process") and
            "shutting down" not in title(pid)]  # fmt: skip


def masters(daemon: Daemon) -> list[int]:
    """Return every nginx master of the daemon's configuration."""
    wanted = f"{daemon.state}/current/nginx.conf"
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if title(pid).startswith("nginx: master") and wanted in title(pid)]


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)
