"""From `serve Service created` to `nginx answers from it`: rayproxy beside the plain script, in one run.

Both speak to the same API server, one after the other, so that neither takes the other's processor.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from bench.ending import at_sigterm
from tests.support import plain
from tests.support.apiserver import Cluster, local_api_server
from tests.support.daemon import Daemon
from tests.support.http import request
from tests.support.kuberay import KubeRay
from tests.support.upstream import Upstream
from tests.support.waiting import until

urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the API server signs its own certificate

CRD = Path(__file__).parent.parent / "tests/crds/rayservices.yaml"
CALM = 4.5  # s between two changes, so that each is the first one after calm


@dataclass
class Contestant:
    """Hold one way to keep nginx in step: its port, and how to count its reloads."""

    name: str
    port: int
    reloads: Callable[[], int]


Contest = Callable[[Cluster], AbstractContextManager[Contestant]]


def main() -> None:
    """Read the arguments, run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=9, help="new routes that are timed, each after calm")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 5000], help="services that are there already")
    parser.add_argument("--burst", type=int, default=300, help="services that are made at once")
    parser.add_argument("--alone", action="store_true", help="without the plain script beside it")
    arguments = parser.parse_args()
    at_sigterm()
    contests = (rayproxy,) if arguments.alone else (plain_script, rayproxy)
    run(arguments.samples, sorted(arguments.sizes), arguments.burst, contests)


def run(samples: int, sizes: Sequence[int], burst: int, contests: Sequence[Contest]) -> None:
    """Run all, print the figures."""
    bursts: dict[str, object] = {}
    with local_api_server(("--max-requests-inflight=10000", "--max-mutating-requests-inflight=10000")) as cluster:
        cluster.install_crd(CRD)
        upstream = Upstream(host="0.0.0.0", name="bench")
        world = KubeRay(cluster, cluster.namespace("bench"), upstream.port)
        with ThreadPoolExecutor(8) as pool:
            made = 0
            for size in sizes:
                list(pool.map(world.routed, (f"s{number:05d}" for number in range(made, size))))
                made = size
                medians, starts = {}, {}
                for contest in contests:
                    begun = time.perf_counter()
                    with contest(cluster) as one:
                        wait_routed(one, f"s{size - 1:05d}", 300)
                        starts[one.name] = round(time.perf_counter() - begun, 1)
                        medians[one.name] = propagation(one, world, samples, size)
                        if size == sizes[0]:
                            bursts[one.name] = at_once(one, world, pool, burst)
                print(f"{size} services, seconds from a start to the last route: {starts}", flush=True)
                print(f"{size} services: " + compare(medians), flush=True)
        upstream.close()
    for name, value in bursts.items():
        print(f"burst, {name}: {value}", flush=True)


def propagation(one: Contestant, world: KubeRay, samples: int, size: int) -> dict[str, float]:
    """Return the times in ms of `samples` new routes, each after calm; what was made is removed again."""
    times = []
    for number in range(samples):
        name = f"new-{one.name}-{size}-{number}"
        rayservice = world.rayservice(name)
        time.sleep(CALM)
        service = world.service(rayservice)
        created = time.perf_counter()
        wait_routed(one, name, 60)
        times.append((time.perf_counter() - created) * 1000)
        time.sleep(CALM)
        world.delete_rayservice(name)
        world.delete_service(service["metadata"]["name"])
        time.sleep(CALM)
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def at_once(one: Contestant, world: KubeRay, pool: ThreadPoolExecutor, count: int) -> dict[str, float]:
    """Create many at once; return how long after the last one all were routed, and the reloads it took."""
    time.sleep(CALM * 2)
    names = [f"burst-{one.name}-{number}" for number in range(count)]
    before = one.reloads()
    started = time.perf_counter()
    made = list(pool.map(world.routed, names))
    created = time.perf_counter()
    for name in names:
        wait_routed(one, name, 120)
    seconds = time.perf_counter() - created
    time.sleep(2)
    figures = {"created in s": created - started, "routed after s": seconds, "reloads": one.reloads() - before}
    list(pool.map(world.delete_rayservice, names))
    list(pool.map(world.delete_service, (service["metadata"]["name"] for _, service in made)))
    time.sleep(CALM)
    return {key: round(value, 2) for key, value in figures.items()}


def wait_routed(one: Contestant, name: str, seconds: float) -> None:
    """Ask nginx until it answers from the upstream."""

    def answered() -> bool:
        with contextlib.suppress(OSError):
            return request(("127.0.0.1", one.port), f"/apis/rayservice/{name}/").status == 200
        return False

    until(f"{one.name} routes {name}", answered, seconds, every=0.001)


@contextlib.contextmanager
def rayproxy(cluster: Cluster) -> Iterator[Contestant]:
    """Run the daemon."""
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    daemon = Daemon(folder, {"KUBECONFIG": str(cluster.kubeconfig(folder)), "LOG_LEVEL": "info"})
    try:
        daemon.start(ready=False)
        until("ready", daemon.is_ready, 120)
        yield Contestant("rayproxy", daemon.port, lambda: daemon.reloads)
    finally:
        daemon.clean_up()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def plain_script(cluster: Cluster) -> Iterator[Contestant]:
    """Run the plain script and its nginx, the routes that exist already written in one go."""
    with (
        tempfile.TemporaryDirectory(prefix="rp-") as folder,
        plain.plain_script(cluster.kubeconfig(Path(folder))) as script,
    ):
        yield Contestant("script", script.port, lambda: script.reloads)


def compare(medians: dict[str, dict[str, float]]) -> str:
    """Return the medians, and their ratio where there are two, in words."""
    cells = [f"{name} {m['median']:.0f} ms ({m['min']:.0f} to {m['max']:.0f})" for name, m in medians.items()]
    if "script" in medians:
        cells.append(f"script / rayproxy = {medians['script']['median'] / medians['rayproxy']['median']:.2f}")
    return ", ".join(cells)
