"""Callers who hang up before their answer begins: what was done for them ends, and nobody waits for it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from callers import asked, counted
from conftest import listening, wait_for
from llmserving import overtime, rendering
from llmserving.api import body as bodies
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer

MESSAGES = {"messages": [{"role": "user", "content": "slow"}]}
RENDERED = {
    "/v1/chat/completions": MESSAGES,
    "/chat/completions": MESSAGES,
    "/inference": {"input": "slow"},
    "/embeddings/QuestionAnswer": {"prompt": [{"role": "user", "content": "slow"}], "secretKey": "a"},
    "/tokenize": MESSAGES,
}


class Slow(ByteTokenizer):
    """Its template is at work on one text until the test is over, if nothing ends it before."""

    def __init__(self):
        self.over = threading.Event()

    def render(self, messages, options):
        while messages[-1]["content"] == "slow" and not self.over.is_set():
            pass
        return super().render(messages, options)


@pytest.fixture
def running(monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 600.0)
    tokenizer = Slow()
    with listening(assemble(from_mapping({"engine": "echo"}), tokenizer, EchoEngine())) as found:
        yield found
        tokenizer.over.set()


@pytest.mark.parametrize("path", RENDERED)
def test_a_conversation_is_rendered_for_as_long_as_its_caller_is_there(running, path, caplog):
    workshop = running.server.workshop
    with ExitStack() as callers:
        for _ in range(8):
            callers.enter_context(asked(running, path, RENDERED[path]))
        wait_for(lambda: workshop._waiting == 8 - overtime.THREADS, "all threads are busy, and the others wait", 30)
    wait_for(lambda: workshop._free._value == overtime.THREADS, "the threads are free", 30)
    wait_for(lambda: counted(running, path) == 8, "all are counted", 30)
    assert workshop._waiting == 0
    assert running.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}).status_code == 200
    assert "a request failed" not in caplog.text


@pytest.mark.parametrize("path", ["/tokenize", "/inference"])
def test_a_long_body_waits_to_be_read_for_as_long_as_its_caller_is_there(running, path, monkeypatch):
    readers, busy = ThreadPoolExecutor(1), threading.Event()
    monkeypatch.setattr(bodies, "READERS", readers)
    readers.submit(busy.wait, 60)
    long = "a" * bodies.OFF_THE_LOOP
    try:
        with asked(running, path, {"prompt": long, "input": long}):
            wait_for(lambda: readers._work_queue.qsize() == 1, "it waits", 30)
        wait_for(lambda: counted(running, path) == 1, "it is given up", 30)
    finally:
        busy.set()
        readers.shutdown()
