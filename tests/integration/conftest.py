"""A daemon on a folder of manifests, with a real nginx and an upstream of the test's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests
from tests.support.upstream import Upstream

Start = Callable[..., Daemon]


@pytest.fixture
def manifests(folder: Path, upstream: Upstream) -> Manifests:
    """Return a folder of manifests whose Services lead to the test's upstream."""
    return Manifests(folder / "m", upstream.port)


@pytest.fixture
def new_daemon(make_daemon: Start, manifests: Manifests) -> Start:
    """Return a function from settings to a daemon on those manifests, not started."""

    def make(**settings: str) -> Daemon:
        return make_daemon(SOURCE="manifests", MANIFESTS=str(manifests.folder), **settings)

    return make


@pytest.fixture
def daemon(new_daemon: Start) -> Daemon:
    """Return such a daemon, not started, with a worker alone."""
    return new_daemon(WORKERS="1")


@contextmanager
def _side(template: str, upstream: Upstream) -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    manifests = Manifests(folder / "m", upstream.port)
    manifests.routed("chat")
    settings = {"SOURCE": "manifests", "MANIFESTS": str(manifests.folder), "TEMPLATE": template, "WORKERS": "1"}
    daemon = Daemon(folder, settings | {"MAX_BODY": "64k"})
    try:
        yield daemon.start()
    finally:
        daemon.clean_up()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def sides() -> Iterator[dict[str, Daemon]]:
    """Return a daemon for each built-in template; both lead `chat` to one upstream."""
    upstream = Upstream()
    with _side("prefix", upstream) as prefix, _side("regex", upstream) as regex:
        yield {"prefix": prefix, "regex": regex}
    upstream.release.set()
    upstream.close()
