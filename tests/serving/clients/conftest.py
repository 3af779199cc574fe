"""The model server behind nginx, under the proxy's prefix, as a front end reaches it."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import listening, wait_for
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble, load
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer

TEMPLATES = Path(__file__).resolve().parents[3] / "nginx"
NAME = "qa-service-chatglm3"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_configuration(folder, listen, backend):
    """Render what rayproxy would write for one RayService, with the project's own templates."""
    settings = {
        "listen": listen,
        "run_dir": folder,
        "user": "root" if os.getuid() == 0 else "",
        "workers": 1,
        "worker_connections": 256,
        "worker_shutdown_timeout": 5,
        "read_timeout": 2000,
        "max_body": "10m",
        "access_log": False,
        "map_size": 2048,
    }
    route = {"Name": NAME, "ClusterIP": "127.0.0.1", "Port": backend}
    templates = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined)
    for name, template, values in [
        ("nginx.conf", "nginx.conf.j2", settings),
        ("unrouted.conf", "unrouted.conf.j2", {"unrouted": []}),
        ("revision.conf", "revision.conf.j2", {"run_dir": folder, "revision": "test"}),
        (f"ray-{NAME}.conf", "ray-location.prefix.conf.j2", route),
    ]:
        (folder / name).write_text(templates.get_template(template).render(values))


@contextmanager
def proxied(folder, backend):
    """Run nginx in front of a port; yield the address under the proxy's prefix."""
    listen = f"127.0.0.1:{free_port()}"
    write_configuration(folder, listen, backend)
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=(folder / "error.log").open("w"))
    try:
        wait_for(lambda: answers(f"http://{listen}/-/healthz", process), "nginx answers")
        yield f"http://{listen}/apis/rayservice/{NAME}"
    finally:
        process.terminate()
        process.wait(10)


def answers(url, process):
    assert process.poll() is None, "nginx ended by itself"
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


class Proxied:
    """A server, and its address through the proxy."""

    def __init__(self, running, url):
        self.running = running
        self.url = url

    def wait_until_free(self):
        """Wait until every place is free again; the answers of these tests would have taken much longer."""
        wait_for(lambda: self.running.server.admission.inside == 0, "the places are free", 5)
        wait_for(lambda: self.running.server.engine.stats().running == 0, "the engine is idle", 5)


def through_proxy(tmp_path_factory, server):
    if NGINX is None:
        pytest.skip("no nginx here; `make install-serving` installs it")
    with listening(server) as running:
        port = httpx.URL(running.url).port
        with proxied(tmp_path_factory.mktemp("nginx"), port) as url:
            yield Proxied(running, url)


@pytest.fixture(scope="package")
def model(tmp_path_factory, base):
    """Serve the tiny model."""
    settings = {"model_dir": base, "model_name": NAME, "engine": "continuous"}
    yield from through_proxy(tmp_path_factory, load(from_mapping(settings)))


@pytest.fixture(scope="package")
def echo_through_proxy(tmp_path_factory):
    """Serve the engine that repeats what it is told."""
    settings = {"engine": "echo", "model_name": NAME, "max_length": 4096}
    yield from through_proxy(tmp_path_factory, load(from_mapping(settings)))


@pytest.fixture(scope="package")
def slow(tmp_path_factory):
    """Serve the engine that repeats what it is told, 20 ms for each byte, to one client at a time."""
    values = {"engine": "echo", "model_name": NAME, "max_running": 1, "max_waiting": 0}
    settings = from_mapping(values)
    yield from through_proxy(tmp_path_factory, assemble(settings, ByteTokenizer(), EchoEngine(delay=0.02)))
