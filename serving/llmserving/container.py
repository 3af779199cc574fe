"""What this process may use of the machine: processors and memory, by control groups (v2, v1) and the host."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")
NO_LIMIT = 2**60  # bytes: version 1 says "none" with a number as large as its pages allow


@dataclass(frozen=True)
class Hierarchy:
    """A mounted hierarchy of control groups, and this process's place in it."""

    version: int
    top: Path
    own: Path

    def folders(self) -> Iterator[Path]:
        """Yield this process's group and those around it: each may have a limit."""
        yield self.own
        yield from (folder for folder in self.own.parents if folder.is_relative_to(self.top))


def processors(root: Path = ROOT) -> int:
    """Return how many processors this process may use: half of one counts as one."""
    quotas = (_quota(group.version, folder) for group in hierarchies("cpu", root) for folder in group.folders())
    allowed = min(quotas, default=math.inf)
    return max(1, math.ceil(min(allowed, len(os.sched_getaffinity(0)))))


def memory_left(root: Path = ROOT) -> int:
    """Return how many bytes this process may still take: what is kept of files counts as free."""
    lefts = (_memory(group.version, folder) for group in hierarchies("memory", root) for folder in group.folders())
    return max(0, int(min([_available(root), *lefts])))


def hierarchies(controller: str, root: Path = ROOT) -> Iterator[Hierarchy]:
    """Yield where a controller's limits may stand: version 2's tree, and the controller's own of version 1."""
    places = dict(_places(root))
    for mount in _lines(root / "proc/self/mountinfo"):
        fields, _, rest = mount.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        inside, top = fields.split(" ")[3:5]
        if kind == "cgroup2":
            yield Hierarchy(2, *_own(root, top, inside, places.get("", "/")))
        elif kind == "cgroup" and controller in options.split(","):
            yield Hierarchy(1, *_own(root, top, inside, places.get(controller, "/")))


def _places(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of this process's group for each controller of version 1, and for "" of version 2."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        yield from ((controller, path) for controller in controllers.split(","))


def _own(root: Path, top: str, inside: str, path: str) -> tuple[Path, Path]:
    """Return the mount's folder and the group's: what is mounted may be a part of the tree, the group's own too."""
    folder = root / top.lstrip("/")
    visible = path.removeprefix(inside) if path.startswith(inside) else ""
    own = folder / visible.lstrip("/")
    return folder, own if own.is_dir() and ".." not in visible else folder


def _quota(version: int, folder: Path) -> float:
    if version == 2:  # noqa: PLR2004
        quota, _, period = _text(folder / "cpu.max").partition(" ")
    else:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else math.inf


def _memory(version: int, folder: Path) -> float:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")  # noqa: PLR2004
    limit, used = (_text(folder / name) for name in names)
    if not limit.isdigit() or not used.isdigit() or int(limit) > NO_LIMIT:
        return math.inf
    prefix = "" if version == 2 else "total_"  # noqa: PLR2004
    kept = dict(line.split(" ", 1) for line in _lines(folder / "memory.stat"))
    files = sum(int(kept.get(f"{prefix}{name}_file", 0)) for name in ("active", "inactive"))
    return int(limit) - max(0, int(used) - files)


def _available(root: Path) -> float:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return math.inf


def _text(path: Path) -> str:
    """Return a file's text: names of mounts and groups may be any bytes."""
    try:
        return path.read_bytes().decode(errors="surrogateescape").strip("\n")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    text = _text(path)
    return text.split("\n") if text else []  # Python knows other ends of a line, which names may have in them
