"""Callers who send their bodies a byte at a time, and an honest one beside them: with request buffering and without.

python -m bench.bodies

A Ray Serve deployment with max_ongoing_requests: 8 stands behind nginx; 200 connections drip. Without buffering each
of them is a request of the model's from its head on; with buffering none is one before its body is whole.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

from bench.ending import at_sigterm
from tests.support.daemon import Daemon
from tests.support.manifests import Manifests
from tests.support.rayserve import ray_serve

DRIPPING, ONGOING = 200, 8
PAUSE = 1.0  # s between two bytes of a dripped body
HONEST, PATIENCE = 5, 10.0  # calls, and s that each waits
APPLICATION = f"""
from ray import serve

@serve.deployment(max_ongoing_requests={ONGOING})
class Echo:
    async def __call__(self, request):
        return str(len(await request.body()))

application = Echo.bind()
"""


def main() -> dict[str, dict[str, object]]:
    """Measure both, print what was seen, return it."""
    argparse.ArgumentParser(prog="python -m bench.bodies", description=__doc__.partition("\n")[0]).parse_args()
    at_sigterm()
    seen: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(prefix="rp-source-") as source:
        (Path(source) / "echo.py").write_text(APPLICATION)
        deployment = {"name": "Echo", "ray_actor_options": {"num_cpus": 0.5}}
        application = {
            "name": "e",
            "route_prefix": "/",
            "import_path": "echo:application",
            "deployments": [deployment],
        }
        for name, setting in (("buffered", ""), ("streamed", "echo")):
            with ray_serve(Path(source), application) as port, proxy(port, setting) as daemon:
                seen[name] = measured(daemon.port)
                print(f"{name}: {seen[name]}", flush=True)
    return seen


@contextmanager
def proxy(model: int, stream_bodies: str) -> Iterator[Daemon]:
    """Run rayproxy before the model; yield it."""
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    manifests = Manifests(folder / "m", model)
    manifests.routed("echo")
    settings = {"SOURCE": "manifests", "MANIFESTS": str(manifests.folder), "STREAM_BODIES": stream_bodies}
    daemon = Daemon(folder, settings)
    try:
        yield daemon.start()
    finally:
        daemon.clean_up()
        shutil.rmtree(folder, ignore_errors=True)


def measured(port: int) -> dict[str, object]:
    """Return what the honest call got before, and beside those who drip."""
    alone = [honest(port) for _ in range(HONEST)]
    with dripping(port) as alive:
        beside = [honest(port) for _ in range(HONEST)]
        still = alive()
    return {
        "alone": summary(alone),
        f"beside {DRIPPING} that drip": summary(beside),
        "connections that still drip": still,
        "after": summary([honest(port) for _ in range(HONEST)]),
    }


def honest(port: int) -> float | None:
    """Return the seconds that a call with a small whole body took, or None where it did not succeed."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", "/apis/rayservice/echo/", b"x" * 100)
        answer = connection.getresponse()
        return time.perf_counter() - begun if (answer.status, answer.read()) == (200, b"100") else None
    except OSError:
        return None
    finally:
        connection.close()


@contextmanager
def dripping(port: int) -> Iterator[Callable[[], int]]:
    """Hold connections that send a byte of their body each second; yield what counts those that still can."""
    head = b"POST /apis/rayservice/echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
    stop = Event()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(DRIPPING)]
        for client in clients:
            client.sendall(head + b"x")
        thread = Thread(target=drip, args=(clients, stop))
        thread.start()
        time.sleep(3 * PAUSE)  # all of them are under way
        try:
            yield lambda: sum(map(sends, clients))
        finally:
            stop.set()
            thread.join()


def drip(clients: list[socket.socket], stop: Event) -> None:
    while not stop.wait(PAUSE):
        for client in clients:
            sends(client)


def sends(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
    except OSError:
        return False
    return True


def summary(calls: list[float | None]) -> str:
    """Say how many calls succeeded, and how long those took."""
    times = [call for call in calls if call is not None]
    median = f", median {statistics.median(times) * 1000:.0f} ms" if times else f" within {PATIENCE:g} s"
    return f"{len(times)} of {len(calls)} answered{median}"


if __name__ == "__main__":
    main()
