"""The engine in a process of its own: it may be killed, hang, or fail to load, and the server says so."""

import asyncio
import gc
import json
import os
import pickle
import signal
import threading
from multiprocessing import Pipe

import pytest
from conftest import wait_for
from llmserving.engines import core, core_client
from llmserving.engines.base import EngineDeadError, Sampling
from llmserving.engines.echo import EchoEngine
from llmserving.engines.protocol import Cancel, Embed, Submit
from llmserving.server import load
from llmserving.settings import from_mapping
from processes import descendants

LONG = {"prompt": "a", "max_tokens": 500, "ignore_eos": True, "temperature": 0}


@pytest.fixture
def running(base, serve):
    return serve(model_dir=base)


@pytest.fixture
def engine(running):
    return running.server.engine


def test_a_process_that_is_killed_is_seen_by_everybody(running, engine):
    with running.client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        engine._process.kill()
        rest = [line for line in lines if line.startswith("data: ")]
    assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == 503
    assert rest[-1] == "data: [DONE]"
    with pytest.raises(EngineDeadError, match="the engine's process was killed: for want of memory"):
        engine.check_health()
    ready = running.client.get("/ready")
    assert (ready.status_code, "was killed" in ready.text) == (503, True)
    assert running.post("/v1/completions", LONG).status_code == 503
    assert running.post("/v1/embeddings", {"input": "a"}).status_code == 503
    assert running.client.get("/health").status_code == 200
    running.wait_until_idle()


def test_a_process_that_hangs_is_seen_and_holds_up_no_other_route(running, engine, monkeypatch):
    os.kill(engine._process.pid, signal.SIGSTOP)
    posts = [threading.Thread(target=running.post, args=("/inference", {"input": "a" * 400})) for _ in range(20)]
    for post in posts:
        post.start()
    wait_for(lambda: running.server.admission.inside == len(posts), "they are inside")
    assert running.client.get("/health", timeout=5).status_code == 200
    assert running.client.get("/ready").status_code == 200
    monkeypatch.setattr(core_client, "SILENCE_SECONDS", 0.0)
    assert "said nothing" in running.client.get("/ready").text
    monkeypatch.undo()
    os.kill(engine._process.pid, signal.SIGCONT)
    for post in posts:
        post.join(120)
    assert not any(post.is_alive() for post in posts)
    running.wait_until_idle()
    assert running.client.get("/ready").status_code == 200


async def rest(tokens):
    return [token async for token in tokens]


def test_whoever_waits_for_a_process_that_hangs_is_told_and_given_up(engine, monkeypatch):
    sent, send = [], engine._connection.send
    monkeypatch.setattr(engine._connection, "send", lambda message: (sent.append(message), send(message)))

    async def scenario():
        tokens = engine.submit([5, 6, 7], Sampling(max_tokens=500, temperature=0))
        await anext(tokens)
        os.kill(engine._process.pid, signal.SIGSTOP)
        monkeypatch.setattr(core_client, "SILENCE_SECONDS", 0.0)
        with pytest.raises(EngineDeadError, match="has said nothing"):
            await asyncio.wait_for(rest(tokens), 60)

    try:
        asyncio.run(scenario())
        wait_for(lambda: any(isinstance(message, Cancel) for message in sent), "it is given up")
    finally:
        os.kill(engine._process.pid, signal.SIGCONT)


def test_a_check_that_fails_now_and_then_ends_nothing(engine, monkeypatch):
    """A machine that was asleep hears of the process a second after it woke."""
    checks = []

    def check_health():
        checks.append(1)
        if len(checks) % core_client.CHECKS:
            raise EngineDeadError("nothing was heard while the machine slept")

    monkeypatch.setattr(core_client, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(engine, "check_health", check_health)

    async def scenario():
        items = asyncio.Queue()
        engine._waiting[-1] = asyncio.get_running_loop(), items
        await asyncio.to_thread(wait_for, lambda: len(checks) > 30, "it is looked after", 30)
        assert items.empty()

    asyncio.run(scenario())


def test_a_dead_worker_inside_the_process_is_seen_outside(engine, monkeypatch):
    """What its health check says comes with the next sign of life."""
    monkeypatch.setattr(engine, "_unhealthy", "the continuous batching worker died: the device is gone")
    with pytest.raises(EngineDeadError, match="the device is gone"):
        engine.check_health()
    wait_for(lambda: engine._unhealthy is None, "the process says how it is")


def test_two_event_loops_can_ask_at_once(running, engine):
    async def ask():
        return [token.id async for token in engine.submit([5, 6, 7], Sampling(max_tokens=50, temperature=0))]

    found = []
    asking = threading.Thread(target=lambda: found.append(asyncio.run(ask())))
    asking.start()
    body = {"prompt": [5, 6, 7], "max_tokens": 50, "temperature": 0, "ignore_eos": True}
    assert running.post("/v1/completions", body).json()["usage"]["completion_tokens"] == 50
    asking.join(120)
    assert found[0] == asyncio.run(ask())


def test_a_model_that_cannot_be_loaded_leaves_no_process(base):
    before = descendants(os.getpid())
    with pytest.raises(ValueError, match="goes to 512"):
        load(from_mapping({"model_dir": base, "max_length": 1000}))
    assert descendants(os.getpid()) == before


def test_a_process_that_ends_while_it_loads_is_told_of(base, monkeypatch):
    monkeypatch.setattr(core_client.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="the engine's process ended with 1: it was loading the model"):
        load(from_mapping({"model_dir": base}))


def test_a_process_that_hangs_up_and_stays_is_told_of(base, monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text('#!/bin/bash\neval "exec $3>&-"\nexec sleep 600\n')  # its arguments: -m, the module, the socket
    script.chmod(0o755)
    before = descendants(os.getpid())
    monkeypatch.setattr(core_client.sys, "executable", str(script))
    monkeypatch.setattr(core_client, "END_SECONDS", 1)
    with pytest.raises(RuntimeError, match="hung up, and is still there 1 seconds later: it was"):
        load(from_mapping({"model_dir": base}))
    assert descendants(os.getpid()) == before


def test_a_process_that_cannot_be_killed_holds_up_no_end(engine, monkeypatch, caplog):
    """As one is that waits in the kernel, for a driver or a disk."""
    kill = engine._process.kill
    monkeypatch.setattr(engine._process, "kill", lambda: None)
    monkeypatch.setattr(core_client, "END_SECONDS", 1)
    engine.close()
    assert f"the engine's process {engine._process.pid} was killed, and is still there 1 seconds later" in caplog.text
    kill()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ask", [Submit(0, (1, 2), Sampling(max_tokens=5)), Embed(0, ((1, 2),))])
def test_nothing_is_kept_of_a_request_that_is_given_up_before_it_has_begun(ask):
    """Its number comes in the same read as its end: its task is cancelled before its first step."""
    ours, theirs = Pipe()

    async def scenario():
        engine = core.Core(theirs, EchoEngine(512), None)
        ours.send(ask)
        ours.send(Cancel(0))
        engine._receive()
        assert list(engine._tasks) == [0]
        await asyncio.wait(engine._tasks.values(), timeout=30)
        await asyncio.sleep(0)  # what is called when a task is done is called a step later
        assert engine._tasks == {}

    with ours, theirs:
        asyncio.run(scenario())
        gc.collect()  # a coroutine that is never awaited is told of where it is freed


def test_what_nobody_foresaw_leaves_its_traceback_where_it_was(caplog):
    try:
        {}["cuda"]
    except KeyError as error:
        sent = pickle.loads(pickle.dumps(core._portable(error)))
    assert (type(sent), str(sent)) == (RuntimeError, "KeyError: 'cuda'")
    assert '{}["cuda"]' in caplog.text


def test_a_server_that_is_closed_leaves_no_process(base):
    before = descendants(os.getpid())
    server = load(from_mapping({"model_dir": base}))
    assert len(descendants(os.getpid())) == len(before) + 1
    server.close()
    assert descendants(os.getpid()) == before
    with pytest.raises(EngineDeadError, match="the engine was stopped"):
        server.engine.check_health()
