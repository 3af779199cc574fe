"""Callers who hang up while their work is in the line before a thread: nothing of it is kept there."""

import asyncio
import gc
import threading
import tracemalloc
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from callers import asked, counted
from conftest import listening, wait_for
from llmserving.api import body as bodies
from llmserving.engines.base import Embedder
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble
from llmserving.settings import from_mapping
from llmserving.threads import in_thread
from llmserving.tokenizer import ByteTokenizer

CALLERS = 8
SIZE = 2**20
LONG = "a" * SIZE
TOKENS = [65] * (SIZE // 16)
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"description": LONG}}}
AT_WORK = {
    "to read tokens": ("/tokenize", {"prompt": LONG}),
    "to read tokens of one prompt of several": ("/v1/completions", {"prompt": [LONG, "a"]}),
    "to read tokens of a question": ("/inference", {"input": LONG}),
    "to read tokens of what is embedded": ("/v1/embeddings", {"input": LONG}),
    "to write tokens singly": ("/tokenize", {"prompt": "many", "return_token_strs": True}),
    "to write a text": ("/detokenize", {"tokens": TOKENS}),
    "to look at a response format": ("/v1/completions", {"prompt": "a", "response_format": FORMAT}),
    "to write an answer": ("/v1/completions", {"prompt": TOKENS, "max_tokens": 1}),
}


class Wordy(ByteTokenizer):
    """One word has many tokens."""

    def encode(self, text, *, special=True):
        return list(TOKENS) if text == "many" else super().encode(text, special=special)


class Choosy(EchoEngine):
    """An engine that takes any response format."""

    def check_format(self, response_format):
        pass


@pytest.fixture
def running():
    embedder = Embedder(ByteTokenizer(), SimpleNamespace(embedding_width=1))
    server = assemble(from_mapping({"engine": "echo"}), Wordy(), Choosy(2**22), embedder=embedder)
    with listening(server) as found:
        yield found


@pytest.fixture
def pool():
    """Return a pool whose thread is busy until the test is over."""
    made, over = ThreadPoolExecutor(1), threading.Event()
    made.submit(over.wait, 120)
    yield made
    over.set()
    made.shutdown()


@pytest.fixture
def kept():
    """Return a function that says how many bytes there are which were not there before."""
    gc.collect()
    tracemalloc.start()

    def found():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    yield found
    tracemalloc.stop()


def hang_up(running, pool, path, body):
    """Ask, and hang up once the work waits."""
    before = pool._work_queue.qsize()
    with asked(running, path, body):
        wait_for(lambda: pool._work_queue.qsize() == before + 1, "the work waits", 30)


def check(running, pool, kept, path, body):
    hang_up(running, pool, path, body)  # what the first caller makes for all is there then
    before = kept()
    for _ in range(CALLERS):
        hang_up(running, pool, path, body)
    wait_for(lambda: counted(running, path) == CALLERS + 1, "all are counted", 30)
    wait_for(lambda: kept() - before < SIZE, "what is kept of all is less than one caller brought", 30)
    assert pool._work_queue.qsize() == CALLERS + 1


@pytest.mark.parametrize("path", ["/tokenize", "/inference"])
def test_a_body_that_waits_to_be_read_goes_with_its_caller(running, pool, kept, path, monkeypatch):
    monkeypatch.setattr(bodies, "READERS", pool)
    check(running, pool, kept, path, {"prompt": LONG, "input": LONG})


@pytest.mark.parametrize("work", AT_WORK)
def test_what_waits_for_a_thread_goes_with_its_caller(running, pool, kept, work, monkeypatch):
    body_of = bodies.body_of

    async def first(request):
        asyncio.get_running_loop().set_default_executor(pool)
        return await body_of(request)

    monkeypatch.setattr(bodies, "body_of", first)
    monkeypatch.setattr("llmserving.api.legacy.body_of", first)
    check(running, pool, kept, *AT_WORK[work])


class Late(Executor):
    """Its thread comes to the work when whoever wanted it is gone."""

    def __init__(self):
        self.gone, self.future = threading.Event(), Future()

    def submit(self, do, *args):
        self.future.set_running_or_notify_cancel()
        threading.Thread(target=self._late, args=(do, args)).start()
        return self.future

    def _late(self, do, args):
        self.gone.wait(30)
        try:
            self.future.set_result(do(*args))
        except IndexError as error:
            self.future.set_exception(error)


def test_a_thread_that_finds_no_work_any_more_disturbs_nobody(caplog):
    pool, told, done = Late(), [], []

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        task = asyncio.create_task(in_thread(lambda: done.append("work"), pool))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pool.gone.set()
        wait_for(pool.future.done, "the thread has been there", 30)
        await asyncio.sleep(0)

    asyncio.run(scenario())
    gc.collect()
    assert (told, done, caplog.text) == ([], [], "")
