"""What the README's first command runs, with the stand-in in the model's place."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.http import free_port
from tests.support.waiting import until

RUN = Path(__file__).parent.parent.parent / "examples/run.py"


def test_the_first_command_shows_the_documented_calls_and_their_answers_and_ends_on_a_signal(folder: Path):
    shown = folder / "shown"
    command = [sys.executable, str(RUN), "--stand-in", f"--model-port={free_port()}", f"--state-dir={folder / 's'}"]
    command += [f"--listen=127.0.0.1:{free_port()}", f"--admin-listen=127.0.0.1:{free_port()}"]
    with shown.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        until("it runs", lambda: "Running." in shown.read_text(), 30)
        text = shown.read_text()
        assert '"output": "你好! I am a stand-in' in text
        assert text.count("event:add") == 6
        assert "event:finish" in text
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, shown.read_text()


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
