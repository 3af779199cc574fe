"""The endpoints of many services change each second: does the daemon stay calm, small and quick?

    python -m bench.endpoints [--services 500] [--minutes 10]

A real API server, one daemon and its nginx. First a few new routes while all is calm, then the same while every
EndpointSlice is written once a second. Exits with 1 when nginx was reloaded for more than the new routes, when a new
route took more than twice as long and a second, or when memory grew by more than 2 MiB a minute in the second half.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import urllib3

from bench.ending import at_sigterm
from bench.propagation import CALM, CRD
from bench.soak import Size
from tests.support.apiserver import local_api_server
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay, endpoint_slice
from tests.support.upstream import Upstream
from tests.support.waiting import until

ONE, BOTH = (True, False), (True, True)
WRITERS = 8  # threads; an API server on two shared cores takes some 500 writes a second
SAMPLES = 5


class Churn:
    """Write the EndpointSlices of many RayServices each second: one of two endpoints is ready, then both."""

    def __init__(self, kuberay: KubeRay, count: int) -> None:
        self.names = [f"busy-{number:04d}" for number in range(count)]
        self.rounds = 0
        self._cluster = kuberay.cluster
        self._connections = urllib3.PoolManager(cert_reqs="CERT_NONE", maxsize=WRITERS)  # each writer keeps its own
        self._end = threading.Event()
        with ThreadPoolExecutor(WRITERS) as pool:
            self.services = [service for _, service in pool.map(kuberay.routed, self.names)]
            slices = pool.map(lambda service: kuberay.endpoints(service, *BOTH), self.services)
            root = f"/apis/discovery.k8s.io/v1/namespaces/{kuberay.namespace}/endpointslices"
            self._paths = [f"{root}/{each['metadata']['name']}" for each in slices]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Write until the end of the context."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _run(self) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            for ready in itertools.cycle([ONE, BOTH]):
                due = time.monotonic() + 1
                endpoints = endpoint_slice(self.services[0], *ready)["endpoints"]
                list(pool.map(partial(self._write, json.dumps({"endpoints": endpoints})), self._paths))
                self.rounds += 1
                if self._end.wait(max(0.0, due - time.monotonic())):
                    return

    def _write(self, body: str, path: str) -> None:
        headers = {
            "Authorization": f"Bearer {self._cluster.token}",
            "Content-Type": "application/merge-patch+json",
        }
        answer = self._connections.request("PATCH", self._cluster.url + path, body=body, headers=headers)
        assert answer.status == 200, answer.data


def new_routes(daemon: Daemon, kuberay: KubeRay, prefix: str) -> list[float]:
    """Return the milliseconds from each of a few new Services to its route's first answer."""
    times = []
    for number in range(SAMPLES):
        name = f"{prefix}-{number}"
        rayservice = kuberay.rayservice(name)
        time.sleep(CALM)
        kuberay.service(rayservice)
        begun = time.perf_counter()
        until(name, partial(daemon.answers_from, name, "bench"), 60, 0.001)
        times.append(1000 * (time.perf_counter() - begun))
        time.sleep(CALM)
    return times


def main() -> int:
    """Run it, print what was seen, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.endpoints", description=__doc__.partition("\n")[0])
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    at_sigterm()
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    flags = ("--max-requests-inflight=10000", "--max-mutating-requests-inflight=10000")
    with local_api_server(flags) as cluster:
        cluster.install_crd(CRD)
        upstream = Upstream(host="0.0.0.0", name="bench")
        kuberay = KubeRay(cluster, cluster.namespace("bench"), upstream.port)
        daemon = Daemon(folder, {"KUBECONFIG": str(cluster.kubeconfig(folder)), "LOG_LEVEL": "info"})
        try:
            return report(daemon, Churn(kuberay, arguments.services), kuberay, arguments.minutes)
        finally:
            daemon.clean_up()
            upstream.close()
            shutil.rmtree(folder, ignore_errors=True)


def report(daemon: Daemon, churn: Churn, kuberay: KubeRay, minutes: float) -> int:
    daemon.start()
    daemon.until_state(churn.names[-1], "accepted", kuberay.namespace)
    calm = new_routes(daemon, kuberay, "calm")
    assert daemon.process
    size, reloads = Size(daemon.process.pid), daemon.reloads
    size.start()
    with churn.running():
        end = time.monotonic() + 60 * minutes
        busy = new_routes(daemon, kuberay, "meanwhile")
        time.sleep(max(0.0, end - time.monotonic()))
    size.end.set()
    size.join()
    figures = {
        "changes a second": round(churn.rounds * len(churn.services) / (60 * minutes)),
        "new route while calm, ms": round(statistics.median(calm)),
        "new route meanwhile, ms": round(statistics.median(busy)),
        "reloads beside those for new routes": daemon.reloads - reloads - 2 * SAMPLES,
        **size.report(),
    }
    print(json.dumps(figures, indent=2))
    slower = statistics.median(busy) > 2 * statistics.median(calm) + 1000
    return 1 if slower or size.slope > 2 or daemon.reloads - reloads > 2 * SAMPLES else 0


if __name__ == "__main__":
    sys.exit(main())
