"""Objects with ever new names that come and go, and many large ones: does the daemon stay small?

    python -m bench.churn [--minutes 10] [--objects 500] [--large 1000]

A scripted API server, a daemon and its nginx. First `--large` RayServices of 1.4 MB are listed. Then, each second,
`--objects` RayServices and their Services take the place of those of the second before. Exits with 1 where the daemon
needed more than 200 MiB for the first, or grew by more than 5 % in the second half of the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.ending import at_sigterm
from tests.support.daemon import Daemon
from tests.support.reflecting import PATH, rayservice
from tests.support.scripted import Reply, ScriptedApi, Seen, kubeconfig, raw

SERVICES = "/api/v1/services"
LARGEST = 200.0  # MiB
GROWTH = 1.05
TOLD = 2000  # events that a watch may still be told


def main() -> int:
    """Run both, print what was seen, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.churn", description="Does the daemon stay small?")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--large", type=int, default=1000)
    arguments = parser.parse_args()
    at_sigterm()
    peak = of_large_objects(arguments.large)
    points = of_objects_that_come_and_go(arguments.objects, arguments.minutes * 60)
    half, end = halves(points)
    report = {"MiB at most, large objects": peak, "MiB, third quarter": half, "MiB, last quarter": end}
    print(json.dumps(report, indent=2))
    return 1 if peak > LARGEST or end > GROWTH * half else 0


def of_large_objects(count: int) -> float:
    """List RayServices of 1.4 MB; return the most MiB that the daemon had."""
    with _daemon(_large(count)) as (_, daemon):
        return memory(daemon, "VmHWM")


def of_objects_that_come_and_go(objects: int, seconds: float) -> list[float]:
    """Let each second's objects take the place of those before; return the daemon's MiB, second by second."""
    with _daemon(lambda _: None) as (api, daemon):
        return list(_churn(api, daemon, objects, seconds))


def halves(points: list[float]) -> tuple[float, float]:
    """Return the medians of the third and of the last quarter."""
    quarter = len(points) // 4
    return statistics.median(points[2 * quarter : 3 * quarter]), statistics.median(points[3 * quarter :])


def memory(daemon: Daemon, which: str) -> float:
    """Return VmRSS, or VmHWM, of the daemon in MiB."""
    assert daemon.process
    found = re.search(rf"^{which}:\s+(\d+) kB$", Path(f"/proc/{daemon.process.pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


@contextlib.contextmanager
def _daemon(always: Callable[[Seen], Reply | None]) -> Iterator[tuple[ScriptedApi, Daemon]]:
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    api = ScriptedApi(always=always)
    daemon = Daemon(folder, {"KUBECONFIG": str(kubeconfig(folder, api.url)), "EVENTS": "false", "LOG_LEVEL": "info"})
    try:
        yield api, daemon.start()
    finally:
        daemon.clean_up()
        api.close()
        shutil.rmtree(folder, ignore_errors=True)


def _churn(api: ScriptedApi, daemon: Daemon, objects: int, seconds: float) -> Iterator[float]:
    end, turn, before = time.monotonic() + seconds, 0, list[str]()
    while time.monotonic() < end:
        begun, turn = time.monotonic(), turn + 1
        names = [f"t{turn}-{number}" for number in range(objects)]
        for name in names:
            api.put(PATH, rayservice(name))
            api.put(SERVICES, _service(name))
        for name in before:
            api.delete(PATH, name)
            api.delete(SERVICES, f"{name}-serve-svc")
        before = names
        del api._events[:-TOLD]  # noqa: SLF001 - the stand-in keeps all that ever happened
        time.sleep(max(0.0, begun + 1 - time.monotonic()))
        yield memory(daemon, "VmRSS")


def _service(name: str) -> dict[str, Any]:
    owner = {
        "apiVersion": "ray.io/v1", "kind": "RayService", "name": name, "uid": f"uid-{name}", "controller": True,
    }  # fmt: skip
    labels = {"ray.io/serve": name}
    metadata = {"name": f"{name}-serve-svc", "namespace": "default", "labels": labels, "ownerReferences": [owner]}
    spec = {"clusterIP": "127.0.0.1", "selector": labels, "ports": [{"name": "serve", "port": 8000}]}
    return {"metadata": metadata, "spec": spec}


def _large(count: int) -> Callable[[Seen], Reply | None]:
    note = "x" * 1_400_000

    def page(seen: Seen) -> Reply | None:
        if seen.path != PATH or "watch" in seen.query:
            return None
        begin = int(seen.query.get("continue", 0))
        end = min(count, begin + int(seen.query["limit"]))
        items = [rayservice(f"large-{number}", annotations={"note": note}) for number in range(begin, end)]
        metadata = {"resourceVersion": "7"} | ({"continue": str(end)} if end < count else {})
        return raw(json.dumps({"kind": "List", "metadata": metadata, "items": items}).encode())

    return page


if __name__ == "__main__":
    sys.exit(main())
