"""Look after the replicas of a deployment: which processes they are, and how much memory each has."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

import processes

INTERVAL = 5.0  # seconds
MEBIBYTE = 2**20


class Watch:
    """Note the memory of every descendant with some title, its own descendants' included, again and again."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        self._seen: dict[int, list[tuple[float, float]]] = {}  # {process: [(minutes, MiB)]}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            for pid, memory in self._look().items():
                minutes = (time.monotonic() - self._start) / 60
                self._seen.setdefault(pid, []).append((minutes, memory))
            await asyncio.sleep(INTERVAL)

    def _look(self) -> dict[int, float]:
        found = {}
        for pid in processes.descendants(os.getpid()):
            try:
                if Path(f"/proc/{pid}/cmdline").read_text().startswith(self._title):
                    found[pid] = sum(map(_resident, [pid, *processes.descendants(pid)]))
            except OSError:  # it has just ended
                continue
        return found

    def report(self) -> dict[str, float]:
        """Return how many replicas were lost, and how the memory of the last one went in the run's second half."""
        points = list(self._seen.values())[-1]
        later = points[len(points) // 2 :]
        slope = statistics.linear_regression(*zip(*later, strict=True)).slope
        return {
            "minutes": round(points[-1][0], 1),
            "replicas lost": len(self._seen) - 1,
            "memory at first, MiB": round(points[0][1]),
            "memory at half time, MiB": round(later[0][1]),
            "memory at the end, MiB": round(points[-1][1]),
            "memory slope in the second half, MiB/minute": round(slope, 2),
        }


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1]) * 1024 / MEBIBYTE
    raise FileNotFoundError(pid)  # it has just ended
