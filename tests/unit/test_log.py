"""The log: each line is JSON, whoever says it."""

from __future__ import annotations

import json
import subprocess
import sys

SAID = r"""
import logging, warnings
from rayproxy.log import configure, flush
configure("info")
logging.getLogger("watchdog").warning("no thread %s", "x" * 9000)
logging.getLogger("watchdog").info("nothing that matters")
warnings.warn("several\nlines", RuntimeWarning)
flush()
"""


def test_what_libraries_log_and_warn_of_is_a_line_of_json_like_any_other():
    done = subprocess.run([sys.executable, "-W", "default", "-c", SAID], capture_output=True, text=True, check=True)
    first, second = map(json.loads, done.stderr.splitlines())
    assert (first["logger"], first["level"], first["event"]) == (
        "watchdog",
        "warning",
        ("no thread " + "x" * 9000)[:500],
    )
    assert second["logger"] == "py.warnings"
    assert "RuntimeWarning: several\nlines" in second["event"]
