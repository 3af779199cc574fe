"""What the proxy itself says of a model while something happens: `routes` in one of its pods, and its Events."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.cluster.world import NAME, World

PAUSE = 1.0  # s between two looks


@dataclass
class Said:
    """What was said so far: the states of `routes`, each once in a row, and at the end the Events."""

    states: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


@contextmanager
def listening(world: World) -> Iterator[Said]:
    """Note what is said until the end of the block."""
    said = Said()
    _events(world, "DELETE")  # one that says the same is not written twice
    done = threading.Event()
    thread = threading.Thread(target=_look, args=(done, world, said.states))
    thread.start()
    try:
        yield said
    finally:
        done.set()
        thread.join()
        found = _events(world, "GET")["items"]
        said.events = [each["reason"] for each in sorted(found, key=lambda each: each["firstTimestamp"])]


def _events(world: World, method: str) -> dict:
    path = f"/api/v1/namespaces/{world.namespace}/events?fieldSelector=source=rayproxy"
    return world.running.server.call(method, path)


def _look(done: threading.Event, world: World, states: list[str]) -> None:
    while not done.wait(PAUSE):
        with suppress(AssertionError, subprocess.TimeoutExpired, ValueError):  # a pod or the API server is away
            state = _state(world)
            if [state] != states[-1:]:
                states.append(state)


def _state(world: World) -> str:
    """Return what `rayproxy routes` would print of the model."""
    cat = ["cat", "/var/lib/rayproxy/status.json"]
    rows = json.loads(world.running.kubectl("-n", "rayproxy", "exec", "deploy/rayproxy", "-c", "rayproxy", "--", *cat))
    own = [row for row in rows if (row["namespace"], row["name"]) == (world.namespace, NAME)]
    if not own:
        return "none"
    behind = own[0]["behind"]
    return f"{behind['state']} {behind['ready']}/{behind['endpoints']}" if behind else own[0]["state"]
