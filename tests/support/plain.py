"""The plain script of bench/ with an nginx of its own: what takes the proxy's place in a comparison."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.http import free_port

NGINX = """worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{ listen 127.0.0.1:{port}; include ray-*.conf; }}
}}
"""
# A script that ends is started anew, as whoever runs one has it: it ends with the API server's connection.
AGAIN = 'while :; do "$@"; sleep 1; done'


@dataclass(frozen=True)
class Plain:
    """A running script; its nginx listens on loopback."""

    folder: Path
    port: int

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def reloads(self) -> int:
        """Return how often it has reloaded nginx."""
        counted = self.folder / "reloads"
        return len(counted.read_text().splitlines()) if counted.exists() else 0


@contextmanager
def plain_script(kubeconfig: Path) -> Iterator[Plain]:
    """Run the script until the end of the block; the routes that exist already are written in one go."""
    plain = Plain(Path(tempfile.mkdtemp(prefix="rp-")), free_port())
    nginx = ["nginx", "-c", str(plain.folder / "nginx.conf")]
    (plain.folder / "nginx.conf").write_text(NGINX.format(folder=plain.folder, port=plain.port))
    subprocess.run(nginx, check=True)
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "bench.plain_script", str(plain.folder)]
    with (plain.folder / "script.log").open("wb") as log:
        again = ["bash", "-c", AGAIN, "script", *command]
        script = subprocess.Popen(again, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield plain
    finally:
        os.killpg(script.pid, signal.SIGKILL)
        script.wait()
        subprocess.run([*nginx, "-s", "stop"], check=False)
        shutil.rmtree(plain.folder, ignore_errors=True)
