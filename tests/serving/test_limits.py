"""Clients that go away, clients that are too many, and an engine that dies."""

import asyncio
import gc
import itertools
import socket
import threading
from contextlib import ExitStack

import httpx
import pytest
from conftest import here, tokens_made, wait_for
from llmserving.app import Gate
from llmserving.engines.base import Embedder, EngineDeadError, Sampling
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer
from transformers.generation.continuous_batching.requests import GenerationOutput

LONG = {"prompt": "a", "max_tokens": 500, "ignore_eos": True, "temperature": 0}


async def hang_up(client, body, after):
    """Read some lines of a stream, then close the connection."""
    async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        assert response.status_code == 200
        lines = 0
        async for _ in response.aiter_lines():
            lines += 1
            if lines > after:
                return


def test_64_clients_that_go_away_in_mid_stream_free_every_slot(tiny_server):
    async def scenario():
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=tiny_server.url, timeout=120, limits=limits) as client:
            await asyncio.gather(*(hang_up(client, LONG, after=place % 7) for place in range(64)))

    asyncio.run(scenario())
    tiny_server.wait_until_idle()
    assert tiny_server.post("/inference", {"input": "still there?", "max_tokens": 2}).status_code == 200


def test_a_client_that_goes_away_without_a_stream_frees_its_slot(tiny_server):
    before = tokens_made(tiny_server)

    def impatient():
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{tiny_server.url}/v1/completions", json={**LONG, "n": 32}, timeout=0.3)

    impatient()
    tiny_server.wait_until_idle()
    assert tokens_made(tiny_server) - before < 32 * 500


def test_a_sequence_cancelled_before_its_first_token_frees_its_place(base, serve):
    running = serve(here(model_dir=base, engine="continuous"))
    engine = running.server.engine

    async def scenario():
        for _ in range(200):
            tokens = engine.submit([5, 6, 7], Sampling(max_tokens=400, temperature=0))
            first = asyncio.create_task(anext(tokens))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await tokens.aclose()

    asyncio.run(scenario())
    running.wait_until_idle()
    assert engine._manager.output_router.result_handlers == {}


def test_nothing_is_kept_of_sequences_that_were_given_up(base, serve):
    engine = serve(here(model_dir=base, engine="continuous")).server.engine

    async def give_up():
        tokens = engine.submit([5, 6, 7], Sampling(max_tokens=400, temperature=0))
        await anext(tokens)
        await tokens.aclose()

    async def scenario():
        await asyncio.gather(*(give_up() for _ in range(64)))

    asyncio.run(scenario())
    wait_for(lambda: engine.stats().running == 0, "the sequences have ended")
    gc.collect()
    assert [each for each in gc.get_objects() if isinstance(each, GenerationOutput)] == []


class Held(EchoEngine):
    """An engine whose sequences wait until they are let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.go.set()  # for the warm-up

    async def submit(self, prompt, sampling):
        while not self.go.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.005)
        async for token in super().submit(prompt, sampling):
            yield token


@pytest.fixture
def held(serve):
    settings = from_mapping({"engine": "echo", "max_running": 2, "max_waiting": 2})
    running = serve(assemble(settings, ByteTokenizer(), Held()))
    running.server.engine.go.clear()
    yield running
    running.server.engine.go.set()


def test_one_request_too_many_gets_json_and_a_time_to_come_back(held):
    async def scenario():
        async with httpx.AsyncClient(base_url=held.url, timeout=180) as client:
            posts = [asyncio.create_task(client.post("/inference", json={"input": "a"})) for _ in range(7)]
            done, _ = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 3:
                done, _ = await asyncio.wait(posts, timeout=0.05)
            assert (await client.get("/health")).status_code == 200
            held.server.engine.go.set()
            return await asyncio.gather(*posts)

    responses = asyncio.run(scenario())
    refused = [response for response in responses if response.status_code == 429]
    assert sorted(response.status_code for response in responses) == [200] * 4 + [429] * 3
    assert all(int(response.headers["retry-after"]) > 0 for response in refused)
    assert all(response.json()["error"]["type"] == "RateLimitError" for response in refused)


def test_the_choices_of_one_request_count_one_by_one(held):
    held.server.engine.go.set()
    assert held.post("/v1/completions", {"prompt": "a", "n": 4}).status_code == 200
    refused = held.post("/v1/completions", {"prompt": "a", "n": 5})
    assert refused.status_code == 400
    assert "at most 4" in refused.json()["error"]["message"]


def test_a_server_that_shuts_down_takes_no_more(held):
    held.server.admission.draining = True
    response = held.post("/inference", {"input": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, 503)
    assert "retry-after" in response.headers
    assert held.client.get("/ready").status_code == 503
    assert held.client.get("/health").status_code == 200


def kill_worker(engine, after=0):
    """Make the worker's next step fail, or one after some, as a fault of the device would."""
    runner, steps = engine._manager.batch_processor.model_runner, itertools.count()
    compute = runner.compute_batch

    def fail(*rows):
        if next(steps) >= after:
            raise RuntimeError("the device is gone")
        return compute(*rows)

    runner.compute_batch = fail


def test_a_dead_worker_is_seen_by_everybody(base, serve):
    running = serve(here(model_dir=base, engine="continuous"))
    engine = running.server.engine
    engine.check_health()
    assert running.client.get("/ready").status_code == 200
    kill_worker(engine)
    assert running.post("/v1/completions", LONG).status_code == 503
    wait_for(lambda: engine._manager.background_thread_status.fatal_error, "the reason is known")
    with pytest.raises(EngineDeadError, match="the device is gone"):
        engine.check_health()
    assert running.client.get("/ready").status_code == 503
    assert running.client.get("/health").status_code == 200
    assert running.post("/v1/completions", LONG).status_code == 503


def test_a_worker_that_dies_ends_the_streams_that_are_running(base, serve):
    running = serve(here(model_dir=base, engine="continuous"))
    kill_worker(running.server.engine, after=20)
    response = running.post("/v1/completions", {**LONG, "stream": True})
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    assert '"choices":[{' in lines[0]
    assert '"code":503' in lines[-2]
    assert lines[-1] == "data: [DONE]"


def test_one_bad_sequence_of_generate_fails_alone(base, serve):
    running = serve(here(model_dir=base, engine="generate"))
    engine = running.server.engine
    real, engine._model.generate = engine._model.generate, lambda *_, **__: 1 / 0
    assert running.post("/inference", {"input": "a"}).status_code == 500
    engine._model.generate = real
    assert running.post("/inference", {"input": "a", "max_tokens": 2}).status_code == 200
    engine.check_health()


def test_more_sequences_than_the_cache_holds_wait_and_are_all_answered(base, serve):
    running = serve(model_dir=base, engine="continuous", kv_cache_tokens=512)

    async def scenario():
        async with httpx.AsyncClient(base_url=running.url, timeout=180) as client:
            bodies = [{**LONG, "prompt": f"{place}", "max_tokens": 300} for place in range(8)]
            posts = [client.post("/v1/completions", json=body) for body in bodies]
            return await asyncio.gather(*posts)

    responses = asyncio.run(scenario())
    assert [response.json()["usage"]["completion_tokens"] for response in responses] == [300] * 8
    running.server.engine.check_health()


def test_the_longest_possible_request_leaves_the_worker_alive(base, serve):
    running = serve(model_dir=base, engine="continuous", kv_cache_tokens=64)
    length = running.client.get("/v1/models").json()["data"][0]["max_model_len"]
    body = {"prompt": [5] * (length - 1), "max_tokens": 1, "ignore_eos": True}
    assert running.post("/v1/completions", body).status_code == 200
    assert running.post("/v1/completions", {**body, "max_tokens": 2}).status_code == 400
    running.server.engine.check_health()


def test_a_body_that_grows_too_large_on_its_way_is_refused(echo):
    def chunks():
        for _ in range(10):
            yield b" " * 2**20

    headers = {"Content-Type": "application/json"}
    assert echo.client.post("/v1/completions", content=chunks(), headers=headers).status_code == 413


@pytest.fixture
def uploads(echo, monkeypatch):
    """Return a function that sends a part of a body, waits until it is read and keeps the connection.

    1 MiB of bodies has room.
    """
    monkeypatch.setattr("llmserving.app.MAX_BODIES", 2**20)
    take, read = Gate._take, []

    def counted(gate, size, more):
        taken = take(gate, size, more)
        read.append(more)
        return taken

    monkeypatch.setattr(Gate, "_take", counted)
    with ExitStack() as stack:

        def upload(size):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", echo.client.base_url.port)))
            kind = "Host: a\r\nContent-Type: application/json\r\n"
            head = f"POST /detokenize HTTP/1.1\r\n{kind}Content-Length: {2**22}\r\n\r\n"
            before = sum(read)
            connection.sendall(head.encode() + b" " * size)
            wait_for(lambda: sum(read) == before + size, f"{size} bytes have been read", 30)
            return connection

        yield upload


def test_bodies_that_are_larger_together_than_there_is_room_for_are_refused_for_a_while(echo, uploads):
    """Without that, callers who send slowly could fill the memory: 4 MiB each, however many they are."""
    first, _ = uploads(2**19 + 2**16), uploads(2**18 + 2**16)
    large = {"prompt": "a" * 2**19, "max_tokens": 1}
    refused = echo.post("/v1/completions", large)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert "the bodies of all requests are larger than" in refused.json()["error"]["message"]
    assert echo.post("/v1/completions", {"prompt": "a", "max_tokens": 1}).status_code == 200
    assert echo.post("/inference", {"input": "a", "padding": "a" * 60_000}).status_code == 200
    first.close()
    wait_for(lambda: echo.post("/v1/completions", large).status_code == 400, "there is room again", 30)


def test_a_body_that_does_not_come_to_its_end_is_given_up(echo, uploads, monkeypatch):
    monkeypatch.setattr("llmserving.api.body.BODY_SECONDS", 0.5)
    connection = uploads(2**10)  # comes with its head: no part of it is still to be read when the time is up
    connection.settimeout(30)
    assert connection.recv(2**16).startswith(b"HTTP/1.1 408 ")


def test_what_a_body_took_is_free_when_its_answer_ends(echo, uploads):
    body = {"input": "a", "padding": "a" * 2**19}
    assert [echo.post("/inference", body).status_code for _ in range(4)] == [200] * 4


@pytest.mark.parametrize("path", ["/v1/completions", "/inference"])
def test_a_client_that_goes_away_in_the_middle_of_its_body_is_no_failure(echo, path, caplog):
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", echo.client.base_url.port)) as connection:
        connection.sendall(head.encode() + b'{"prompt": "a')
        connection.shutdown(socket.SHUT_WR)
    counted = f'serving_requests_total{{route="{path}",status="499"}} 1.0'
    wait_for(lambda: counted in echo.client.get("/metrics").text, counted, 10)
    assert "a request failed" not in caplog.text


class Broken:
    """An embedder that fails in a way that nobody foresaw."""

    embedding_tokens, embedding_vocabulary, embedding_width = 512, 257, 8

    async def embed(self, prompts):
        raise RuntimeError(f"nobody foresaw this: {len(prompts)}")


def test_a_failure_that_nobody_foresaw_is_counted_as_it_is_answered(serve):
    settings, tokenizer = from_mapping({"engine": "echo"}), ByteTokenizer()
    running = serve(assemble(settings, tokenizer, EchoEngine(), embedder=Embedder(tokenizer, Broken())))
    assert running.post("/v1/embeddings", {"input": "a"}).status_code == 500  # its connection is closed after it
    wait_for(lambda: "serving_requests_total{" in running.server.metrics.exposition().decode(), "it is counted", 10)
    counted = [line for line in running.server.metrics.exposition().decode().splitlines() if "requests_total{" in line]
    assert counted == ['serving_requests_total{route="/v1/embeddings",status="500"} 1.0']


def test_metrics_tell_of_requests_tokens_and_times(echo):
    echo.post("/inference", {"input": "abc"})
    echo.client.get("/made/up/path")
    for labels in ('route="/inference",status="200"', 'route="none",status="404"'):  # counted once it is answered
        counted = f"serving_requests_total{{{labels}}}"
        wait_for(lambda counted=counted: counted in echo.client.get("/metrics").text, counted, 10)
    text = echo.client.get("/metrics").text
    assert "made" not in text
    for name in ("prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_bucket"):
        assert f"serving_{name}" in text
    for name in ("inter_token_seconds_count", "sequences_running", "sequences_waiting", "cache_usage_ratio"):
        assert f"serving_{name}" in text


def test_the_slots_are_shown_while_they_are_taken(held):
    thread = threading.Thread(target=held.post, args=("/inference", {"input": "a"}))
    thread.start()
    wait_for(lambda: held.server.admission.inside == 1, "the request is inside")
    held.server.engine.go.set()
    thread.join(120)
    held.wait_until_idle()


@pytest.fixture
def hanging(base, serve):
    """Serve with a worker whose next step waits until it is let go."""
    running = serve(here(model_dir=base, engine="continuous"))
    engine, running.go = running.server.engine, threading.Event()
    engine.stall_seconds = 0.5
    runner = engine._manager.batch_processor.model_runner
    compute = runner.compute_batch
    runner.compute_batch = lambda *rows: (running.go.wait(120), compute(*rows))
    engine.check_health()
    yield running
    running.go.set()


def test_a_worker_that_hangs_is_seen(hanging):
    engine = hanging.server.engine
    thread = threading.Thread(target=hanging.post, args=("/v1/completions", {**LONG, "max_tokens": 2}))
    thread.start()
    try:
        with pytest.raises(EngineDeadError, match="no step for"):
            wait_for(engine.check_health, "the hang is seen", 30)
    finally:
        hanging.go.set()
        thread.join(120)
    hanging.wait_until_idle()
    engine.check_health()


def test_a_worker_that_hangs_is_seen_though_nobody_waits_so_long(hanging):
    engine = hanging.server.engine

    async def give_up():
        tokens = engine.submit([5, 6, 7], Sampling(max_tokens=2, temperature=0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(tokens), 0.1)
        await tokens.aclose()

    with pytest.raises(EngineDeadError, match="no step for"):
        wait_for(lambda: asyncio.run(give_up()), "the hang is seen", 30)
    with pytest.raises(EngineDeadError, match="no step for"):
        engine.check_health()
    hanging.go.set()
    hanging.wait_until_idle()
    engine.check_health()
