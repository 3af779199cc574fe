"""The demo behind Ray Serve: the zip, the documented calls, and an end that leaves nothing."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "demo"
MARK = "DEMO_TEST_MARK"
# Byte for byte what the documentation sends, the comma before the brace included.
INFERENCE = '{\n  "input": "你好",\n}'
QUESTION = """{
  "temperature": 0.95,
  "secretKey": "dasdada",
  "invoke_method": "async",
  "prompt": [
    {
      "content": "你好",
      "role": "user"
    }
  ],
  "incremental": false
}"""
HEADERS = {"Content-Type": "application/json; charset=utf-8"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def marked(mark):
    """Return the ids of the processes that have inherited the mark."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def start(state, port, mark, *options):
    command = [sys.executable, str(DEMO / "serve.py"), "--port", str(port), "--state-dir", str(state)]
    return subprocess.Popen(
        [*command, *options],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=(state.parent / "serve.err").open("w"),
        text=True,
    )


def first_line(process, seconds):
    assert select.select([process.stdout], [], [], seconds)[0], f"no line within {seconds} seconds"
    return process.stdout.readline()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    cache = tmp_path_factory.mktemp("model")
    command = [sys.executable, str(DEMO / "prepare.py"), "--tiny", "--cache", str(cache)]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    return ["--model", str(cache / "base"), "--adapter", str(cache / "adapter")]


def test_the_documented_calls_are_answered_from_the_zip_and_the_end_leaves_nothing(model, tmp_path):
    mark, port = uuid.uuid4().hex, free_port()
    process = start(tmp_path / "ray", port, mark, *model, "--name", "qa-service-chatglm3")
    try:
        line = first_line(process, 240)
        assert line == f"ready http://127.0.0.1:{port}\n", (tmp_path / "serve.err").read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=60) as client:
            answer = client.post("/inference", content=INFERENCE).json()
            question = client.post("/embeddings/QuestionAnswer?stream=true", content=QUESTION)
            models = client.get("/v1/models").json()
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    assert "你好" in answer["output"]
    assert all(isinstance(answer[name], str) for name in ("tokenLength", "elapsedTime", "tokenPerSec"))
    events = question.text.split("\n\n")
    assert events[-2].startswith("event:finish\n")
    assert "data: 你好" in events[-3]
    assert json.loads(events[-2].split("meta:")[1])["usage"]["completion_tokens"] > 0
    assert models["data"][0]["id"] == "qa-service-chatglm3"
    assert code == 0
    assert marked(mark) == []


def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(tmp_path):
    mark = uuid.uuid4().hex
    (tmp_path / "empty").mkdir()
    process = start(tmp_path / "ray", free_port(), mark, "--model", str(tmp_path / "empty"))
    assert process.wait(200) == 1
    told = (tmp_path / "serve.err").read_text()
    assert "DEPLOY_FAILED" in told
    assert str(tmp_path / "empty") in told
    assert marked(mark) == []


def test_a_taken_port_is_refused_before_anything_is_started(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = start(tmp_path / "ray", port, uuid.uuid4().hex, "--model", str(tmp_path))
        assert process.wait(30) == 1
    assert f"port {port} is taken: choose another with --port" in (tmp_path / "serve.err").read_text()
