"""One Ray node on ports of its own, and the Serve application on it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import processes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from subprocess import Popen

LOOPBACK = "127.0.0.1"
OBJECT_STORE = 80 * 2**20  # bytes; close to the least that Ray accepts: no model passes through it
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "ray-client-server-port",
    "node-manager-port",
    "object-manager-port",
    "metrics-export-port",
)


class RayNode:
    """Run a Ray head that asks everyone for a token, which only this process and its own know."""

    def __init__(self, state: Path, environment: Mapping[str, str]) -> None:
        """Start the node; `state` gets its log."""
        state.mkdir(parents=True, exist_ok=True)
        self.log = state / "ray.log"
        self._state = state
        # Not in `state`: the path of a Unix socket has 107 bytes at most.
        self._temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        ports = free_ports(len(PORTS))
        self._address = f"http://{LOOPBACK}:{ports[PORTS.index('dashboard-port')]}"
        self._token = secrets.token_hex(32)
        self.process: Popen[bytes] = processes.start(self._command(ports), self._environment(environment), self.log)

    def _command(self, ports: list[int]) -> list[str]:
        options = [f"--{name}={port}" for name, port in zip(PORTS, ports, strict=True)]
        ray = str(Path(sys.executable).with_name("ray"))
        fixed = [
            "--head",
            "--block",
            "--include-dashboard=true",
            "--disable-usage-stats",
            "--log-color=false",
        ]
        size = [f"--num-cpus={max(2, os.cpu_count() or 2)}", f"--object-store-memory={OBJECT_STORE}"]
        where = [
            f"--dashboard-host={LOOPBACK}",
            f"--temp-dir={self._temporary}",
        ]
        return [ray, "start", *fixed, *size, *where, "--min-worker-port=0", "--max-worker-port=0", *options]

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        return {**inherited, **environment, **secret, "HF_HUB_OFFLINE": "1"}

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Ask for the Serve applications of a config; raises OSError until the node listens."""
        self._call("PUT", json.dumps(config).encode())

    def applications(self) -> dict[str, dict[str, Any]]:
        """Return what Ray says of each application: `status`, `message` and more."""
        found: dict[str, dict[str, Any]] = self._call("GET").get("applications", {})
        return found

    def application(self) -> dict[str, Any]:
        """Return what Ray says of its one application; empty: not known yet."""
        return next(iter(self.applications().values()), {})

    def _call(self, method: str, body: bytes | None = None) -> dict[str, Any]:
        url = f"{self._address}/api/serve/applications/"
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def stop(self) -> None:
        """End every process of the node, keep the logs of Serve in `state`, and remove the rest."""
        processes.end_descendants(patience=2.0)  # Ray would drain for 30 seconds
        with contextlib.suppress(OSError):  # it may have ended before it wrote any
            shutil.copytree(
                self._temporary / "session_latest" / "logs" / "serve",
                self._state / "serve",
                dirs_exist_ok=True,
            )
        shutil.rmtree(self._temporary, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]
