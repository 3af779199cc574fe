"""Fixtures that more than one folder uses."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.daemon import Daemon
from tests.support.examples import times
from tests.support.upstream import Upstream

# A busy machine is no failure: pytest-timeout ends what hangs.
hypothesis.settings.register_profile(
    "project", max_examples=times(100), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("project")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a path short enough for a unix socket."""
    path = Path(tempfile.mkdtemp(prefix="rp-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Return an upstream on loopback."""
    server = Upstream()
    yield server
    server.release.set()
    server.close()


@pytest.fixture
def everywhere() -> Iterator[Upstream]:
    """Return an upstream that answers on every ClusterIP."""
    server = Upstream(host="0.0.0.0", name="everywhere")
    yield server
    server.release.set()
    server.close()


@pytest.fixture
def make_daemon(folder: Path) -> Iterator[Callable[..., Daemon]]:
    """Return a function from settings to a Daemon that is not started yet."""
    made: list[Daemon] = []

    def make(port: int = 0, **settings: str) -> Daemon:
        made.append(Daemon(folder, settings, port))
        return made[-1]

    yield make
    for daemon in made:
        daemon.clean_up()
