"""Read what /proc says of a process. A process that is gone reads as empty, never as an error.

Where nothing can be read at all, for want of file descriptors, OSError is raised: nobody may take that for "gone".
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)  # someone else's process is as good as none


@dataclass(frozen=True, slots=True)
class Process:
    """Identify a process for ever: a pid can come again, a pid with its start time cannot."""

    pid: int
    started: str


def identify(pid: int) -> Process | None:
    """Return the process that has this pid now, or None; a zombie counts as gone."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()  # the name before ")" may hold anything
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):  # noqa: PLR2004 - field 22 of proc(5), 20th after the name
        return None
    return Process(pid, fields[19].decode())


def title(pid: int) -> bytes:
    """Return the command line; processes such as nginx write what they are into it."""
    return _read(pid, "cmdline").replace(b"\0", b" ").strip()


def comm(pid: int) -> bytes:
    """Return the name of the executable as the kernel keeps it."""
    return _read(pid, "comm").strip()


def children(pid: int) -> list[Process]:
    """Return the children that are alive."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    if listing.exists():
        found = [int(text) for text in _read(pid, f"task/{pid}/children").split()]
    else:  # a sandboxed kernel without that file
        found = [other for other in pids() if parent(other) == pid]
    return [child for number in found if (child := identify(number))]


def parent(pid: int) -> int:
    """Return the parent's pid, or 0."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def holders(unix_socket: Path) -> list[Process]:
    """Return the processes that have the socket bound to this path open, as far as this user may look."""
    try:
        rows = [row.split(maxsplit=7) for row in Path("/proc/net/unix").read_bytes().splitlines()]
    except _GONE:
        return []
    path = os.fsencode(unix_socket)
    links = {f"socket:[{row[6].decode()}]" for row in rows if len(row) == 8 and row[7] == path}  # noqa: PLR2004 - columns
    found = [identify(pid) for pid in pids() if links & _open_files(pid)] if links else []
    return [process for process in found if process]


def send(process: Process, number: signal.Signals) -> None:
    """Signal through a pidfd, so that a pid that was reused meanwhile is never hit; raise OSError."""
    descriptor = os.pidfd_open(process.pid)
    try:
        if identify(process.pid) != process:
            raise ProcessLookupError(errno.ESRCH, "gone")
        signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def _open_files(pid: int) -> set[str]:
    try:
        return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except _GONE:
        return set()


def pids() -> Iterator[int]:
    """Yield the pids that this process can see."""
    yield from (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except _GONE:
        return b""
