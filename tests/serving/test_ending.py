"""It ends when it should: a dead or hanging engine ends the process, a slow reader ends with its own answer."""

import asyncio
import json
import math
import os
import re
import signal
import socket
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest
import tiny
from conftest import tokens_made, wait_for
from llmserving.api import answer
from llmserving.engines import core_client, local, proof
from llmserving.engines.base import EngineDeadError, Sampling, SequenceError, Token
from llmserving.engines.continuous import ContinuousEngine
from llmserving.engines.echo import EchoEngine
from llmserving.engines.generate import GenerateEngine
from llmserving.server import assemble
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer
from processes import descendants
from test_command import command, launch  # noqa: F401 - fixtures

# Python imports a `sitecustomize` first: this one has a minute pass in two seconds.
IMPATIENT = "from llmserving.engines import core_client\ncore_client.SILENCE_SECONDS = 2.0\n"
LONG = {"prompt": "a", "max_tokens": 450, "ignore_eos": True, "stream": True}


class TestWithoutRay:
    def test_a_dead_engine_ends_the_process_and_running_answers_get_an_error(self, base, command, tmp_path):  # noqa: F811
        process, client = command("--model", str(base))
        (engine,) = descendants(process.pid)
        with client.stream("POST", "/v1/completions", json=LONG) as response:
            lines = response.iter_lines()
            next(lines)
            os.kill(engine, signal.SIGKILL)
            rest = [line for line in lines if line.startswith("data: ")]
        assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == 503
        assert process.wait(60) == 1
        assert (
            "the engine cannot work any more, and so the server ends: the engine's process was killed"
            in (tmp_path / "log").read_text()
        )

    def test_a_hanging_engine_ends_the_process_and_its_own(self, base, command, tmp_path):  # noqa: F811
        (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
        process, client = command("--model", str(base), path=tmp_path)
        (engine,) = descendants(process.pid)
        os.kill(engine, signal.SIGSTOP)
        with client.stream("POST", "/v1/completions", json=LONG) as response:
            rest = [line for line in response.iter_lines() if line.startswith("data: ")]
        assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == 503
        assert process.wait(60) == 1
        assert "has said nothing for 2 seconds" in (tmp_path / "log").read_text()
        assert not Path(f"/proc/{engine}").exists()

    def test_an_engine_that_hangs_after_a_signal_holds_up_neither_its_callers_nor_the_end(
        self,
        base,
        command,  # noqa: F811
        tmp_path,
    ):
        (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
        process, client = command("--model", str(base), "--request_timeout=90", path=tmp_path)
        (engine,) = descendants(process.pid)
        with client.stream("POST", "/v1/completions", json=LONG) as response:
            lines = response.iter_lines()
            next(lines)
            os.kill(engine, signal.SIGSTOP)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line.startswith("data: ")]
        assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == 503  # 504 when its own time is up
        assert process.wait(60) == 0
        assert not Path(f"/proc/{engine}").exists()

    def test_a_moment_without_a_sign_of_life_ends_nothing(self, base, command):  # noqa: F811
        process, client = command("--model", str(base))
        (engine,) = descendants(process.pid)
        os.kill(engine, signal.SIGSTOP)
        assert client.get("/ready").status_code == 200
        os.kill(engine, signal.SIGCONT)
        assert client.post("/v1/completions", json={**LONG, "stream": False, "max_tokens": 2}).status_code == 200
        assert process.poll() is None


class TestASignOfLife:
    def test_a_process_may_be_silent_for_a_minute(self):
        assert core_client.SILENCE_SECONDS == 60

    def test_a_step_may_take_as_long_as_the_models_speed_explains(self):
        slow = proof.Reference((), seconds=180.0, per_token=1.0)
        quick = proof.Reference((), seconds=0.01, per_token=0.0001)
        assert slow.patience(512) > 20 * 512
        assert 60 < quick.patience(512) < 62

    def test_the_engine_that_proved_itself_knows_its_models_speed(self):
        model = tiny.make_model()
        candidate = local.Candidate(model, local.shared_copy(model), 512)
        engine = local.transformers_engine(from_mapping({"engine": "continuous", "model_dir": "x"}), candidate)
        try:
            assert isinstance(engine, ContinuousEngine)
            assert proof.PATIENCE_SECONDS < engine.stall_seconds < 2 * proof.PATIENCE_SECONDS + 100
            engine._states["waiting"] = None
            engine._chooser.last_step = time.monotonic() - engine.stall_seconds + 30
            engine.check_health()
            engine._chooser.last_step -= 31
            with pytest.raises(EngineDeadError, match="has made no step for"):
                engine.check_health()
            engine._states.clear()
        finally:
            engine.close()

    def test_generate_hangs_when_a_token_takes_longer_than_the_models_speed_explains(self):
        engine = GenerateEngine(tiny.make_model(), 512)
        try:
            assert engine._due == math.inf
            engine._due = time.monotonic() + 60
            engine.check_health()
            engine._due = time.monotonic() - 1
            with pytest.raises(EngineDeadError, match="the engine hangs: its next token takes far longer"):
                engine.check_health()
        finally:
            engine.close()

    def test_generate_knows_when_the_next_token_is_due(self):
        engine = GenerateEngine(tiny.make_model(), 512)
        asked = []

        def patience(tokens):
            asked.append(tokens)
            return 1000.0

        engine.patience = patience
        try:
            wanted = Sampling(max_tokens=2, temperature=0)
            engine._run([5, 6, 7], wanted, lambda _: None, threading.Event())
        finally:
            engine.close()
        assert asked == [3, 1, 1]
        assert engine._due == math.inf


class Reader:
    """A client that asks for a long answer and then reads nothing, or a little."""

    def __init__(self, url, body, path="/v1/completions", room=4096):
        host, _, port = str(url).removeprefix("http://").partition(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.connect((host, int(port)))
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        self.socket.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


@pytest.fixture
def endless(serve):
    """Return a function that serves the echo engine, which says 200,000 tokens again, to one that does not read."""

    def start(**settings):
        chosen = from_mapping({"engine": "echo", "max_length": 500_000, **settings})
        running = serve(assemble(chosen, ByteTokenizer(), EchoEngine(500_000)))
        reader = Reader(running.url, {"prompt": "a" * 200_000, "stream": True, "max_tokens": 200_000})
        wait_for(lambda: tokens_made(running) > 0, "its answer has begun")
        return running, reader

    return start


def test_a_client_that_does_not_read_gives_up_its_place(endless, monkeypatch, caplog):
    monkeypatch.setattr(answer, "SLOW_READER_SECONDS", 0.5)
    running, _reader = endless()
    running.wait_until_idle()
    assert "an answer was cut off: its reader took nothing for 0.5 seconds" in caplog.text


LONG_ANSWERS = {
    "a stream": ("/v1/completions", {"prompt": "a" * 200_000, "stream": True, "max_tokens": 200_000}),
    "a whole answer, which its application sends at once": ("/tokenize", {"prompt": "a" * 2_000_000}),
}


@pytest.fixture
def impatient(command, tmp_path):  # noqa: F811
    """Serve the echo engine, in a process for which a slow reader is one who takes nothing for two seconds."""
    script = "from llmserving.api import answer\nanswer.SLOW_READER_SECONDS = 2.0\n"
    (tmp_path / "sitecustomize.py").write_text(script)
    return command("--engine=echo", "--max_length=8000000", path=tmp_path)


def answered(client, path):
    """Return whether an answer has begun; the head of a whole one comes with all of it."""
    sign = "serving_generation_tokens_total [1-9]" if "completions" in path else f'route="{path}",status="200"'
    return re.search(sign, client.get("/metrics").text)


@pytest.mark.parametrize("what", LONG_ANSWERS)
def test_a_client_that_does_not_read_holds_up_no_end(impatient, tmp_path, what):
    process, client = impatient
    path, body = LONG_ANSWERS[what]
    reader = Reader(client.base_url, body, path)
    wait_for(lambda: answered(client, path), "its answer has begun", 30)
    client.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert "a connection was cut off: nothing of its answer was taken for 2 seconds" in (tmp_path / "log").read_text()
    reader.socket.close()


def test_a_slow_client_gets_all_of_its_answer_and_an_idle_one_keeps_its_connection(impatient):
    _, client = impatient
    idle = HTTPConnection(client.base_url.host, client.base_url.port)
    assert healthy(idle)
    reader = Reader(client.base_url, {"prompt": "a" * 2_000_000}, "/tokenize", room=2**16)
    taken = b""
    for paused in range(24):  # 4.8 seconds, and 2 are left to who takes nothing
        taken += reader.socket.recv(2**16)
        time.sleep(0.2)
        assert paused != 14 or healthy(idle)  # uvicorn closes it after 5 seconds
    head, _, taken = taken.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    while len(taken) < length:
        more = reader.socket.recv(2**20)
        assert more, "cut off"
        taken += more
    assert json.loads(taken)["count"] == 2_000_000


def healthy(connection):
    """Ask on this very connection: one that has been closed is made by nobody anew."""
    connection.request("GET", "/health")
    response = connection.getresponse()
    response.read()
    return response.status == 200


def test_an_engine_that_is_faster_than_the_network_waits_for_it_and_nothing_is_lost(serve):
    running = serve(assemble(from_mapping({"engine": "echo"}), ByteTokenizer(), EchoEngine(4096)))
    body = {"prompt": "a" * 500, "stream": True, "max_tokens": 500}
    with running.client.stream("POST", "/v1/completions", json=body) as response:
        text = "".join(
            json.loads(line.removeprefix("data: "))["choices"][0]["text"]
            for line in response.iter_lines()
            if line.startswith("data: {") and '"choices":[{' in line
        )
    assert text == "a" * 500


def test_what_is_not_read_waits_in_a_queue_with_a_bound(endless):
    running, reader = endless()
    running.server.metrics.refresh()
    made = []

    def settled():
        made.append(running.server.metrics.registry.get_sample_value("serving_generation_tokens_total"))
        return len(made) > 200 and made[-1] == made[-200]

    wait_for(settled, "nothing more is made")
    assert made[-1] < 200_000
    assert running.server.admission.inside == 1
    reader.socket.close()
    running.wait_until_idle()


def test_an_engine_that_runs_ahead_of_its_reader_is_told_to_stop():
    async def scenario():
        items = asyncio.Queue()
        core_client._put([(items, Token(1))] * (core_client.UNREAD_TOKENS + 100))
        return items

    items = asyncio.run(scenario())
    assert items.qsize() == core_client.UNREAD_TOKENS + 1
    last = [items.get_nowait() for _ in range(items.qsize())][-1]
    assert isinstance(last, SequenceError)
    assert "have not been read" in str(last)
