"""What the README's first command runs, with the stand-in in the model's place."""

from __future__ import annotations

import contextlib
import importlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import free_port, request
from tests.support.waiting import until

RUN = Path(__file__).parent.parent.parent / "examples/run.py"


def test_the_first_command_shows_the_documented_calls_and_their_answers_and_ends_on_a_signal(folder: Path):
    shown = folder / "shown"
    command = [sys.executable, str(RUN), "--stand-in", f"--model-port={free_port()}", f"--state-dir={folder / 's'}"]
    command += [f"--listen=127.0.0.1:{free_port()}", f"--admin-listen=127.0.0.1:{free_port()}"]
    with shown.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        until("it runs", lambda: "Running at " in shown.read_text(), 30)
        text = shown.read_text()
        assert '"output": "你好! I am a stand-in' in text
        assert text.count("event:add") == 6
        assert "data: 你好! I am a stand-in \n" in text, "the call asks for the whole text so far"
        assert "event:finish" in text
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, shown.read_text()


@pytest.mark.parametrize("asked", [["--checkpoint=x"], ["--stand-in", "--base-model=x"]])
def test_a_model_that_would_not_be_served_is_refused(asked: list[str]):
    done = subprocess.run([sys.executable, str(RUN), *asked], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "base" in done.stderr


@pytest.mark.parametrize("flag", ["--model-port", "--listen", "--admin-listen"])
def test_a_port_that_somebody_else_listens_at_is_named_and_nothing_is_started(folder: Path, flag: str):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        given = {name: f"127.0.0.1:{free_port()}" for name in ("--listen", "--admin-listen")}
        given |= {"--model-port": str(free_port()), "--state-dir": str(folder / "s")}
        given[flag] = str(taken) if flag == "--model-port" else f"127.0.0.1:{taken}"
        command = [sys.executable, str(RUN), "--stand-in", *(f"{name}={value}" for name, value in given.items())]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"somebody listens at 127.0.0.1:{taken} already: end that first, or choose another address with {flag}"
    )
    assert not (folder / "s").exists()


def test_a_model_of_ones_own_takes_the_small_ones_place_with_all_of_its_context(monkeypatch, folder: Path):
    monkeypatch.syspath_prepend(str(RUN.parent))
    example = importlib.import_module("run")
    commands: list[list[str]] = []
    monkeypatch.setattr(example, "_start", commands.append)
    monkeypatch.setattr(sys, "argv", ["run.py", f"--base-model={folder}/base", f"--checkpoint={folder}/lora"])
    example._model(example._arguments())
    [command] = commands
    place = command.index("--model")
    assert command[place:][:6] == [
        *("--model", f"{folder.resolve()}/base", "--adapter", f"{folder.resolve()}/lora", "--max-length", "0")
    ]


def accepts(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, 1):
        return True
    return False


@pytest.fixture
def stand_in() -> Iterator[tuple[str, int]]:
    """Return the address of the stand-in."""
    address = ("127.0.0.1", free_port())
    process = subprocess.Popen([sys.executable, str(RUN.with_name("stand_in.py")), f"127.0.0.1:{address[1]}"])
    until("it listens", lambda: accepts(address))
    yield address
    process.kill()
    process.wait()


@pytest.mark.parametrize("base", ["", "/v1", "/openai/v1"])
def test_the_stand_in_answers_where_openais_clients_ask(stand_in: tuple[str, int], base: str):
    target = f"{base}/chat/completions"
    whole = request(stand_in, target, "POST", b'{"messages": []}')
    assert whole.json["choices"][0]["message"]["content"].startswith("你好")
    streamed = request(stand_in, target, "POST", b'{"messages": [], "stream": true}')
    assert streamed.headers["cache-control"] == "no-cache, no-transform", "or webpack's server would gather it"
    assert streamed.body.endswith(b"data: [DONE]\n\n")
