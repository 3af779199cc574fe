"""Changes and faults for a long time: is what is served what the objects say, and does the daemon stay small?

    python -m bench.soak [--minutes 20] [--seed 0]

A real API server, one daemon and its nginx. Again and again a few RayServices change and something breaks; then
everything must be as the objects say. Meanwhile somebody calls a route that never changes, twenty times a second.
Exits with 1 when that was not so, when a call failed that the fault does not explain, or when descriptors were lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.ending import at_sigterm
from bench.propagation import CRD
from tests.support.apiserver import LocalApiServer, local_api_server
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.processes import children, kill, masters
from tests.support.upstream import Upstream
from tests.support.waiting import until

NAMES = [f"s{number:02d}" for number in range(100)]  # so many that none changes so often that it would have to wait
ANCHOR = "anchor"
PATIENCE = 90.0  # s to settle; the API server may have been away, and the back-off goes to 30 s
AWAY = 8.0  # s without an API server
EDIT = "# edited\n"
# kind -> (state in the daemon's table, type of the error that a caller gets)
KINDS = {
    "served": ("accepted", ""),
    "waiting": ("pending", "rayservice_pending"),
    "headless": ("rejected", "rayservice_rejected"),
    "unlabelled": ("", "rayservice_not_found"),
    "deleted": ("", "rayservice_not_found"),
}
EXPLAINED = ("master_killed", "worker_killed", "route_edited")  # what may fail a call; an edit lives until a resync


@dataclass
class World:
    """Hold the cluster, the daemon, and what each RayService should be."""

    server: LocalApiServer
    kuberay: KubeRay
    daemon: Daemon
    chance: random.Random
    model: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NAMES, "deleted"))

    def change(self) -> None:
        """Make another kind of one RayService, in place where Kubernetes allows it."""
        name = self.chance.choice(NAMES)
        before, kind = self.model[name], self.chance.choice(list(KINDS))
        if before in ("served", "headless"):
            self.kuberay.delete_service(f"{name}-serve-svc")
        if before != "deleted" and kind == "deleted":
            self.kuberay.delete_rayservice(name)
        elif kind != "deleted":
            self._rayservice(name, kind, exists=before != "deleted")
        self.model[name] = kind

    def _rayservice(self, name: str, kind: str, *, exists: bool) -> None:
        label = {"app": None if kind == "unlabelled" else "prediction"}
        if not exists:
            self.kuberay.rayservice(name)
        owner = self.kuberay.patch_rayservice(name, {"metadata": {"labels": label}})
        if kind in ("served", "headless"):
            self.kuberay.service(owner, **({"clusterIP": "None"} if kind == "headless" else {}))

    def is_the_model(self) -> bool:
        """Tell whether the daemon's table and nginx's answers are what the objects say."""
        rows = {row["name"]: row["state"] for row in self.daemon.routes().values() if row["name"] != ANCHOR}
        if rows != {name: KINDS[kind][0] for name, kind in self.model.items() if KINDS[kind][0]}:
            return False
        with contextlib.suppress(OSError):
            wanted = {name: KINDS[kind][1] for name, kind in self.model.items()} | {ANCHOR: ""}
            return all(self.daemon.error(name) == error for name, error in wanted.items())
        return False


def master_killed(world: World) -> None:
    (master,) = masters(world.daemon)
    kill(master)
    until("another master", lambda: masters(world.daemon) not in ([], [master]), 30)


def worker_killed(world: World) -> None:
    (master,) = masters(world.daemon)  # the pid file may be one that we spoiled
    with contextlib.suppress(ProcessLookupError):  # it drained and has just ended
        kill(children(master)[0])


def api_server_away(world: World) -> None:
    world.server.stop()
    time.sleep(AWAY)
    world.server.start()


def route_edited(world: World) -> None:
    for path in (world.daemon.state / "current").resolve().glob("ray-*.conf"):
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            path.write_text(EDIT)
    until("the edit is undone", lambda: EDIT not in world.daemon.files().values(), 30, 0.2)


def wrong_pid_file(world: World) -> None:
    (world.daemon.state / "run/nginx.pid").write_text("1\n")


def history_compacted(world: World) -> None:
    world.server.compact()


def nothing(_: World) -> None:
    """Only the changes."""


FAULTS = (master_killed, worker_killed, api_server_away, route_edited, wrong_pid_file, history_compacted, nothing)


class Caller(threading.Thread):
    """Call the route that never changes, and note in whose time a call failed."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon=True)
        self.calls: Counter[str] = Counter()
        self.during = "the start"
        self.end = threading.Event()
        self._daemon = daemon

    def run(self) -> None:
        while not self.end.wait(0.05):
            good = self._daemon.answers_from(ANCHOR, "soak")
            self.calls["answered" if good else f"failed during {self.during}"] += 1


class Size(threading.Thread):
    """Note the daemon's memory (MiB), file descriptors and threads every five seconds."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.points: list[tuple[float, float, int, int]] = []
        self.end = threading.Event()
        self._proc = Path(f"/proc/{pid}")

    def run(self) -> None:
        started = time.monotonic()
        while not self.end.wait(5):
            status = dict(line.split(":", 1) for line in (self._proc / "status").read_text().splitlines())
            memory = int(status["VmRSS"].split()[0]) / 1024
            descriptors = len(list((self._proc / "fd").iterdir()))
            self.points.append(((time.monotonic() - started) / 60, memory, descriptors, int(status["Threads"])))

    @property
    def later(self) -> list[tuple[float, float, int, int]]:
        return self.points[len(self.points) // 2 :]

    @property
    def lost(self) -> bool:
        """Tell whether there are many more descriptors in the last quarter, as a rule, than in the second one.

        Their number comes and goes with the API server: one moment beside another one says nothing.
        """
        quarter = max(1, len(self.points) // 4)
        second, last = self.points[: 2 * quarter][-quarter:], self.points[-quarter:]
        return statistics.median(point[2] for point in last) > statistics.median(point[2] for point in second) + 8

    @property
    def slope(self) -> float:
        """Return how the memory grew in the second half, in MiB a minute."""
        return statistics.linear_regression(
            [point[0] for point in self.later], [point[1] for point in self.later]
        ).slope

    def report(self) -> dict[str, object]:
        rows = {"the start": self.points[0], "half time": self.later[0], "the end": self.points[-1]}
        return {
            "minutes": round(self.points[-1][0], 1),
            **{
                f"at {when}": f"{row[1]:.1f} MiB, {row[2]} descriptors, {row[3]} threads" for when, row in rows.items()
            },
            "memory slope in the second half, MiB/minute": round(self.slope, 3),
        }


def main() -> int:
    """Run it, print what was seen, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Changes and faults for a long time.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    at_sigterm()
    with world_of(random.Random(arguments.seed)) as world:
        report, calls, lost = soak(world, arguments.minutes * 60)
    print(json.dumps({**report, "calls": calls}, indent=2))
    unexplained = [name for name in calls if name.startswith("failed") and not name.endswith(EXPLAINED)]
    return 1 if unexplained or lost else 0


@contextlib.contextmanager
def world_of(chance: random.Random) -> Iterator[World]:
    """Start everything, with the one route that never changes."""
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    with local_api_server() as server:
        server.install_crd(CRD)
        upstream = Upstream(host="0.0.0.0", name="soak")
        kuberay = KubeRay(server, server.namespace("soak"), upstream.port)
        kuberay.routed(ANCHOR)
        daemon = Daemon(folder, {"KUBECONFIG": str(server.kubeconfig(folder)), "RESYNC": "5", "LOG_LEVEL": "info"})
        try:
            yield World(server, kuberay, daemon.start(), chance)
        except AssertionError as error:
            error.add_note(daemon.told()[-100_000:])
            raise
        finally:
            daemon.clean_up()
            upstream.close()
            shutil.rmtree(folder, ignore_errors=True)


def soak(world: World, seconds: float) -> tuple[dict[str, object], Counter[str], bool]:
    """Change, break, settle until the time is up; return the report, the calls, and whether descriptors were lost."""
    assert world.daemon.process
    caller, size = Caller(world.daemon), Size(world.daemon.process.pid)
    for thread in (caller, size):
        thread.start()
    end = time.monotonic() + seconds
    done: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    try:
        while time.monotonic() < end:
            fault = world.chance.choice(FAULTS)
            caller.during = fault.__name__
            changes = world.chance.randint(1, 8)
            for _ in range(changes):
                world.change()
            fault(world)
            done.update({fault.__name__: 1, "changes": changes})
            begun = time.monotonic()
            until(f"the model {world.model}", world.is_the_model, PATIENCE, 0.2)
            took = round(time.monotonic() - begun, 1)
            slowest[fault.__name__] = max(slowest.get(fault.__name__, 0.0), took)
    finally:
        for thread in (caller, size):
            thread.end.set()
            thread.join()
    report = {
        "done": dict(done),
        "reloads": world.daemon.reloads,
        "slowest to settle, s": slowest,
        **size.report(),
    }
    return report, caller.calls, size.lost


if __name__ == "__main__":
    sys.exit(main())
