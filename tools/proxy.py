"""Run nginx with the project's templates, as rayproxy would, but with routes that never change."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, FileSystemLoader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEMPLATES = Path(__file__).resolve().parents[1] / "nginx"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
STARTUP = 20.0  # seconds


class Proxy(NamedTuple):
    """Hold the proxy's address and its process."""

    url: str
    pid: int


@contextmanager
def proxy(folder: Path, listen: str, routes: Mapping[str, int], read_timeout: int = 2000) -> Iterator[Proxy]:
    """Route `/apis/rayservice/NAME/` to a port of the loopback for each name; `read_timeout` is in seconds."""
    _configure(folder, listen, routes, read_timeout)
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with (folder / "error.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        _wait(f"http://{listen}/-/healthz", process)
        yield Proxy(f"http://{listen}", process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _configure(folder: Path, listen: str, routes: Mapping[str, int], read_timeout: int) -> None:
    settings = {
        "listen": (listen,),
        "run_dir": folder,
        "user": "root" if os.getuid() == 0 else "",  # another could not write below `folder`
        "workers": 1,
        "worker_connections": 512,
        "worker_shutdown_timeout": 5,
        "max_draining": 1,
        "read_timeout": read_timeout,
        "max_body": "10m",
        "pass_authorization": True,
        "kinds": ({"name": "rayservice", "title": "RayService", "told": {}},),
        "route_files": ("ray-*.conf",),
    }
    # Lenient: what a template asks for besides is off here.
    templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=False)

    def write(name: str, template: str, **values: object) -> None:
        (folder / name).write_text(templates.get_template(template).render(values))

    for template in sorted(TEMPLATES.glob("*.conf.j2")):
        if not template.name.startswith(("ray-", "revision")):
            write(template.name.removesuffix(".j2"), template.name, **settings)
    write("revision.conf", "revision.conf.j2", run_dir=folder, revision="fixed")
    for name, port in routes.items():
        write(
            f"ray-{name}.conf",
            "ray-location.prefix.conf.j2",
            Kind="rayservice",
            Name=name,
            ClusterIP="127.0.0.1",
            Port=port,
        )


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.URLError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx does not answer: {error}") from error
            time.sleep(0.05)
