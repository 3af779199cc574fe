"""What the tests of the model server share: a tiny model made once, and servers on ports of their own."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import tiny
import uvicorn
from llmserving.app import build_app
from llmserving.server import Server, assemble, load
from llmserving.settings import from_mapping
from llmserving.tokenizer import ModelTokenizer

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Return the folder of the tiny model."""
    return tiny.save_base(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def adapter(base, tmp_path_factory):
    """Return the folder of a LoRA adapter of the tiny model."""
    return tiny.save_adapter(base, tmp_path_factory.mktemp("model") / "adapter")


def here(**values):
    """Return a server whose engine runs in this process, for a test that reaches into it."""
    from llmserving.engines.local import load_local  # vLLM's environment has another transformers

    settings = from_mapping(values)
    engine, _ = load_local(settings)
    tokenizer = ModelTokenizer(settings.model_dir, trust=False)
    return assemble(settings, tokenizer, engine)


class Running:
    """A server that listens, and a client for it."""

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=180)

    def post(self, path, body):
        return self.client.post(path, json=body)

    def events(self, path, body):
        """Return what each `data:` line of a stream says, [DONE] left out."""
        text = self.client.post(path, json=body).text
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]

    def wait_until_idle(self):
        """Wait until no sequence is inside, not in the admission and not in the engine."""
        wait_for(lambda: self.server.admission.inside == 0, "the slots are free")
        stats = self.server.engine.stats
        wait_for(lambda: (stats().running, stats().waiting) == (0, 0), "the engine is idle")
        wait_for(lambda: stats().cache_usage < 0.01, "the cache is free")


def wait_for(condition, what, seconds=120):
    """Poll a condition until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


HELD = deque()


def free_port():
    """Return a port that is given to nobody else: it stays bound, and what sets SO_REUSEADDR may listen there."""
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    HELD.append(probe)
    if len(HELD) > 100:  # each is a file descriptor
        HELD.popleft().close()
    return probe.getsockname()[1]


def tokens_made(running):
    """Return how many tokens a server has sent so far: a sign of an answer that has begun which does not go again."""
    return running.server.metrics.registry.get_sample_value("serving_generation_tokens_total")


@contextmanager
def listening(server: Server):
    """Serve on a free port of the loopback, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    uv = uvicorn.Server(uvicorn.Config(build_app(server), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=uv.run, kwargs={"sockets": [listener]})
    thread.start()
    running = Running(server, f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        wait_for(lambda: uv.started, "the server listens")
        yield running
    finally:
        running.client.close()
        uv.should_exit = True
        thread.join(120)
        listener.close()


@pytest.fixture
def serve():
    """Return a function that serves with some settings until the test ends."""
    with ExitStack() as stack:

        def start(server=None, **settings):
            return stack.enter_context(listening(server or load(from_mapping(settings))))

        yield start


@pytest.fixture(scope="module")
def echo():
    """Serve the echo engine."""
    with listening(load(from_mapping({"engine": "echo", "max_length": 512}))) as running:
        yield running


@pytest.fixture(scope="module", params=["continuous", "generate"])
def tiny_server(request, base):
    """Serve the tiny model with each transformers engine."""
    with listening(load(from_mapping({"model_dir": base, "model_name": "tiny", "engine": request.param}))) as running:
        yield running


@pytest.fixture(scope="module")
def both(base):
    """Serve the tiny model with both engines."""
    settings = {"model_dir": base, "model_name": "tiny"}
    with (
        listening(load(from_mapping({**settings, "engine": "continuous"}))) as continuous,
        listening(load(from_mapping({**settings, "engine": "generate"}))) as generate,
    ):
        yield continuous, generate
