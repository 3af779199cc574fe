"""A scripted API server, and reflectors that watch it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rayproxy.kube.api import Deadlines
from rayproxy.sources.reflector import ReflectorConfig
from tests.support.reflecting import FAST, QUICK, Reflection
from tests.support.scripted import ScriptedApi
from tests.support.tcpproxy import TcpProxy


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    server = ScriptedApi()
    yield server
    server.close()


@pytest.fixture
def proxy(api: ScriptedApi) -> Iterator[TcpProxy]:
    """Return a TCP proxy in front of the API server."""
    between = TcpProxy(api.port)
    yield between
    between.close()


@pytest.fixture
def reflect(api: ScriptedApi) -> Iterator[Callable[..., Reflection]]:
    """Return a function that starts a reflector; what the test scripts before is what it meets."""
    made: list[Reflection] = []

    def start(timing: ReflectorConfig = FAST, url: str = "", deadlines: Deadlines = QUICK) -> Reflection:
        made.append(Reflection(api, timing, url, deadlines))
        return made[-1].start()

    yield start
    for reflection in made:
        reflection.stop()
