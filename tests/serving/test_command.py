"""`python -m llmserving`: the quick start's arguments, and an end that lets answers finish."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from conftest import free_port, wait_for
from processes import descendants

SERVING = Path(__file__).resolve().parents[2] / "serving"
LONG = {"prompt": "a", "max_tokens": 450, "ignore_eos": True, "stream": True}


@pytest.fixture
def launch(tmp_path):
    """Return a function that starts the command, in a session of its own."""
    started = []

    def start(*arguments, path=SERVING):
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "llmserving", "--host=127.0.0.1", f"--port={port}", *arguments],
            env={**os.environ, "PYTHONPATH": f"{path}:{SERVING}"},
            stderr=(tmp_path / "log").open("w"),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.append(process)
        return process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=180)

    yield start
    for process in started:
        process.kill()
        process.wait(30)


@pytest.fixture
def command(launch, tmp_path):
    """Return a function that starts the command and waits until it is ready."""

    def start(*arguments, **more):
        process, client = launch(*arguments, **more)

        def is_ready():
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                return client.get("/ready").status_code == 200
            except httpx.ConnectError:
                return False

        wait_for(is_ready, "ready", 120)
        return process, client

    return start


def test_the_quick_starts_arguments_serve_the_model_under_its_name(base, command):
    _, client = command(
        f"--model_dir={base}",
        "--model_name=qwen2-72b",
        "--max_length=256",
        "--trust-remote-code",
        "--gpu-memory-utilization=0.95",
    )
    body = {"model": "qwen2-72b", "prompt": "你好! 我们用中文打个招呼", "stream": False, "max_tokens": 30}
    answer = client.post("/openai/v1/completions", json=body).json()
    assert answer["model"] == "qwen2-72b"
    assert client.get("/v1/models").json()["data"][0]["max_model_len"] == 256


SIGNALS = {
    "kubelet's": lambda process: process.send_signal(signal.SIGTERM),
    "Ctrl-C's, which the engine's process gets too": lambda process: os.killpg(process.pid, signal.SIGINT),
}


@pytest.mark.parametrize("whose", SIGNALS)
def test_a_signal_lets_a_stream_finish_and_then_ends_the_process(whose, base, command):
    process, client = command("--model", str(base))
    with client.stream("POST", "/v1/completions", json=LONG) as response:
        lines = response.iter_lines()
        next(lines)
        SIGNALS[whose](process)
        rest = list(lines)
    assert [line for line in rest if line][-1] == "data: [DONE]"
    assert '"finish_reason":"length"' in "".join(rest)
    assert process.wait(60) == 0


def has_ended(pid):
    """Return whether a process is no more, or waits for nothing but its parent's notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def engines(pid):
    """Return the engine's processes, without what one of them runs for a moment: ldconfig, while it loads."""
    return [each for each in descendants(pid) if b"llmserving.engines.core" in command_line(each)]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def test_the_engines_process_ends_with_a_server_that_is_killed(base, command):
    process, client = command("--model", str(base))
    (engine,) = descendants(process.pid)
    with client.stream("POST", "/v1/completions", json=LONG) as response:
        next(response.iter_lines())
        process.kill()
    wait_for(lambda: has_ended(engine), "the engine's process ends", 30)


def test_the_engines_process_ends_with_a_server_that_is_killed_while_it_loads(base, launch):
    process, _ = launch("--model", str(base))
    wait_for(lambda: engines(process.pid), "the engine's process is there")
    (engine,) = engines(process.pid)
    process.kill()
    wait_for(lambda: has_ended(engine), "the engine's process ends", 30)


def test_a_model_that_is_not_there_ends_it_with_the_reason(tmp_path):
    command = [sys.executable, "-m", "llmserving", f"--model_dir={tmp_path}"]
    ended = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(SERVING)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == f"llmserving: {tmp_path}: no config.json, so no model in Hugging Face's format\n"


@pytest.mark.parametrize(("level", "lines"), [("debug", 1), ("info", 0)])
def test_the_log_names_what_is_ignored_where_it_is_asked_to(command, tmp_path, level, lines):
    _, client = command("--engine=echo", f"--log_level={level}")
    body = {"prompt": "a", "no_such_parameter": 1, "store": True}
    assert client.post("/v1/completions", json=body).status_code == 200
    found = [line for line in (tmp_path / "log").read_text().splitlines() if "no_such_parameter, store" in line]
    assert len(found) == lines


@pytest.mark.parametrize(("level", "lines"), [("info", 1), ("warning", 0)])
def test_the_engines_process_logs_at_the_level_that_is_set(base, command, tmp_path, level, lines):
    command("--model", str(base), f"--log_level={level}")
    assert (tmp_path / "log").read_text().count("llmserving.engines.budget: the cache takes") == lines
