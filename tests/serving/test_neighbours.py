"""One caller among many: what he asks for, however much, is not done where others' tokens pass, and ends with him."""

import asyncio
import gc
import threading

import httpx
import pytest
import tiny
from bodies import HI
from conftest import wait_for
from llmserving.api.openai_format import OpenAIFormat
from llmserving.engines.base import Embedder
from llmserving.engines.echo import EchoEngine
from llmserving.engines.encoder import Encoder
from llmserving.server import assemble
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer
from starlette.requests import Request
from test_limits import Held

CHAT, TEXT, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


def where():
    """Return whether this runs in the event loop's thread, where it would hold up everybody."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "beside"
    return "in the loop"


class Noted(ByteTokenizer):
    """A tokenizer that remembers what it did, and where."""

    def __init__(self):
        self.calls = []

    def encode(self, text, *, special=True):
        self.calls.append(("encode", len(text), where()))
        return super().encode(text, special=special)

    def decode(self, ids, *, special=False):
        self.calls.append(("decode", len(ids), where()))
        return super().decode(ids, special=special)


@pytest.fixture
def noted(serve):
    settings = from_mapping({"engine": "echo", "max_length": 20_000})
    running = serve(assemble(settings, Noted(), EchoEngine(20_000)))
    running.calls = running.server.tokenizer.calls
    return running


def test_a_prompt_that_is_repeated_for_each_answer_is_decoded_once_and_beside_the_loop(noted):
    body = {"prompt": [97] * 10_000, "echo": True, "n": 8, "max_tokens": 1}
    answer = noted.post(TEXT, body).json()
    assert [len(choice["text"]) for choice in answer["choices"]] == [10_001] * 8
    assert [call for call in noted.calls if call[:2] == ("decode", 10_000)] == [("decode", 10_000, "beside")]


def test_many_short_prompts_are_encoded_beside_the_loop_as_one_long_one_is(noted):
    for prompt in (["a" * 4000] * 4, "a" * 10_000):
        noted.calls.clear()
        assert noted.post(TEXT, {"prompt": prompt, "max_tokens": 1}).status_code == 200
        assert {where for what, _, where in noted.calls if what == "encode"} == {"beside"}


def test_many_tokens_become_a_text_beside_the_loop(noted):
    assert noted.post("/detokenize", {"tokens": [97] * 10_000}).json() == {"prompt": "a" * 10_000}
    assert ("decode", 10_000, "beside") in noted.calls


def test_a_whole_answer_is_written_beside_the_loop(echo, monkeypatch):
    """A hundred thousand log-probabilities are named one by one."""
    whole, places = OpenAIFormat.whole, []
    monkeypatch.setattr(OpenAIFormat, "whole", lambda *given: [places.append(where()), whole(*given)][1])
    assert echo.post(TEXT, {"prompt": "abc", "n": 4, "logprobs": 20}).status_code == 200
    assert places == ["beside"]


@pytest.fixture
def held(serve):
    running = serve(assemble(from_mapping({"engine": "echo"}), ByteTokenizer(), Held()))
    running.server.engine.go.clear()
    yield running
    running.server.engine.go.set()


@pytest.mark.parametrize(("path", "said"), [(CHAT, {"messages": HI}), ("/inference", {"input": "hi"})])
def test_nothing_of_a_body_is_kept_while_its_answer_is_made(held, path, said):
    asking = threading.Thread(target=held.post, args=(path, {**said, "metadata": "x" * 3_000_000}))
    asking.start()
    wait_for(lambda: held.server.admission.inside == 1, "it is inside", 30)
    kept = [len(getattr(one, "_body", b"")) for one in gc.get_objects() if isinstance(one, Request)]
    held.server.engine.go.set()
    asking.join(30)
    assert kept
    assert max(kept) < 1000


# Embeddings


class Slow:
    """What embeds, and does not come to an end."""

    embedding_tokens = 100
    embedding_vocabulary = 257
    embedding_width = 1

    def __init__(self):
        self.ended = threading.Event()

    async def embed(self, prompts):
        try:
            await asyncio.sleep(3600)
        finally:
            self.ended.set()
        return [[1.0] for _ in prompts]


@pytest.fixture
def slow(serve):
    """Return a function that serves with it."""

    def start(**settings):
        embedder = Embedder(ByteTokenizer(), Slow())
        chosen = from_mapping({"engine": "echo", **settings})
        return serve(assemble(chosen, ByteTokenizer(), EchoEngine(), embedder=embedder))

    return start


def test_embeddings_end_with_their_caller(slow):
    running = slow()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(running.url + EMBED, json={"input": ["a"] * 256}, timeout=0.5)
    assert running.server.embedder.vectors.ended.wait(30)
    running.wait_until_idle()


def test_embeddings_take_no_longer_than_a_request_may(slow):
    running = slow(request_timeout=0.2)
    response = running.post(EMBED, {"input": "a"})
    assert response.status_code == 504
    assert "longer than 0.2 seconds" in response.json()["error"]["message"]
    assert running.server.embedder.vectors.ended.wait(30)


def test_of_texts_that_nobody_waits_for_the_engine_embeds_no_more_than_the_one_it_is_at(monkeypatch):
    encoder, begun, go, texts = Encoder(tiny.make_model().base_model, 512), threading.Event(), threading.Event(), []

    def embed(prompt):
        texts.append(prompt)
        begun.set()
        go.wait(30)
        return [1.0]

    async def scenario():
        asking = asyncio.create_task(encoder.embed([[5]] * 50))
        await asyncio.to_thread(begun.wait, 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        go.set()
        await encoder.embed([[6]])

    monkeypatch.setattr(encoder, "vector", embed)
    asyncio.run(scenario())
    assert texts == [[5], [6]]
