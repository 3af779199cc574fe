"""One daemon for all tests of a file, and an upstream that is all bytes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.http import Answer, free_port
from tests.support.manifests import Manifests
from tests.support.raw import RawUpstream

SETTINGS = {"SOURCE": "manifests", "WORKERS": "1", "READ_TIMEOUT": "2", "TRUSTED_PAGES": "trusted, good/*"}


@dataclass
class Door:
    """Hold the daemon, the manifests it reads and the upstream that `chat`, `trusted` and `team` lead to."""

    daemon: Daemon
    manifests: Manifests
    upstream: RawUpstream

    def ask(self, tail: str = "", answer: bytes | None = None, name: str = "chat", **options) -> Answer:
        """Send a request to a route; `answer` is what the model sends from now on."""
        if answer is not None:
            self.upstream.answer = answer
        return self.daemon.route(name, tail, **options)


@pytest.fixture(scope="module")
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """Return a running daemon with routes to one upstream, and one to a port where nobody listens.

    The parameter is a template, or settings.
    """
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    upstream = RawUpstream()
    manifests = Manifests(folder / "m", upstream.port)
    for name in ("chat", "trusted"):
        manifests.routed(name)
    manifests.routed("team", namespace="good")
    manifests.routed("dead", port=free_port())
    own = getattr(request, "param", "prefix")
    own = own if isinstance(own, dict) else {"TEMPLATE": own}
    settings = SETTINGS | {"MANIFESTS": str(manifests.folder)} | own
    daemon = Daemon(folder, settings)
    try:
        yield Door(daemon.start(), manifests, upstream)
    finally:
        daemon.clean_up()
        upstream.close()
        shutil.rmtree(folder, ignore_errors=True)
