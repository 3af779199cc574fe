"""The benchmarks say what they are when they are asked, and leave nothing behind when they are told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import alive, children, title
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
COMMANDS = ["bench", "bench.bodies", "bench.churn", "bench.endpoints", "bench.soak"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_starts_nothing(command: str):
    words = [sys.executable, "-m", command, "--help"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert f"usage: python -m {command}" in shown


@pytest.mark.slow
def test_a_benchmark_that_is_told_to_end_ends_its_daemon_and_nginx(folder: Path):
    words = [sys.executable, "-m", "bench.churn", "--large", "1"]
    environment = os.environ | {"TMPDIR": str(folder)}  # its own, so that what it leaves can be seen
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        nginx = until("its nginx runs", lambda: masters_below(process.pid), 60)
        below = [*children(process.pid), *nginx]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    until("all that it started has ended", lambda: not any(map(alive, below)))
    assert list(folder.iterdir()) == []


def masters_below(pid: int) -> list[int]:
    """Return the nginx masters that the daemons of a benchmark have started."""
    return [each for child in children(pid) for each in children(child) if title(each).startswith("nginx: master")]
