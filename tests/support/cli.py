"""Run a command of rayproxy with a daemon's settings."""

from __future__ import annotations

import subprocess
import sys

from tests.support.daemon import Daemon


class FailedError(Exception):
    """What a command printed that did not end with 0."""


def rayproxy(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `rayproxy ...`; the daemon itself need not run."""
    return subprocess.run(
        [sys.executable, "-m", "rayproxy", *arguments],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
