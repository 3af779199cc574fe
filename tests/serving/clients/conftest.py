"""The model server behind nginx, under the proxy's prefix, as a front end reaches it."""

import httpx
import pytest
from conftest import free_port, listening, wait_for
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble, load
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer
from proxy import NGINX, proxy

NAME = "qa-service-chatglm3"


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
        routes = {NAME: httpx.URL(running.url).port}
        with proxy(tmp_path_factory.mktemp("nginx"), f"127.0.0.1:{free_port()}", routes) as front:
            yield Proxied(running, f"{front.url}/apis/rayservice/{NAME}")


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
