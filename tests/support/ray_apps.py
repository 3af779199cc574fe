"""Serve applications with Ray Serve until told to end: run by the Python of .venv-serving.

ray_apps.py STATE SOURCE CONFIG

STATE gets the logs, SOURCE is the folder of the applications' module, CONFIG is Ray's ServeDeploySchema as JSON.
Prints `ready` when all applications run. SIGTERM ends all of it.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.error
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/demo"))

import processes
from ray_node import RayNode

PATIENCE = 180.0  # s


def main() -> int:
    """Serve; return 1 where Ray cannot."""
    state, source, config = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    processes.adopt_orphans()
    node = RayNode(Path(state), {"PYTHONPATH": source})
    try:
        bring_up(node, json.loads(config))
        print("ready", flush=True)
        node.process.wait()
        return 1
    finally:
        node.stop()


def bring_up(node: RayNode, config: dict) -> None:
    """Deploy the applications, and wait until each runs."""
    deadline = time.monotonic() + PATIENCE
    asked = False
    while True:
        try:
            if not asked:
                node.deploy(config)
                asked = True
            states = [one["status"] for one in node.applications().values()]
        except urllib.error.HTTPError:
            raise
        except OSError:  # it does not listen yet
            states = []
        if states.count("RUNNING") == len(config["applications"]):
            return
        if "DEPLOY_FAILED" in states or node.process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"Ray Serve does not serve: {node.applications()}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
