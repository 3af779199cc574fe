"""Applications with pages behind rayproxy and the front end of examples/, and a browser before them."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium import webdriver

from tests.support.browser import chromium
from tests.support.certificates import certificate
from tests.support.daemon import Daemon
from tests.support.frontend import frontend
from tests.support.manifests import Manifests
from tests.support.rayserve import ROOT, ray_serve
from tests.support.waiting import until

PYTHON = ROOT / ".venv-pages/bin/python"
APPS = Path(__file__).parent / "apps"
PREFIX = "/apis/rayservice/page"
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}
START = 60.0  # s for an application on a busy machine

Site = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="no .venv-pages: `make test-pages` makes it")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))
            if not PYTHON.exists():
                item.add_marker(missing)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rp-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def cdn(scratch: Path) -> Iterator[int]:
    """Serve what FastAPI's page fetches from its CDN, whose name the browser looks for here; return the port."""
    static = next((PYTHON.parents[1] / "lib").glob("python3*/site-packages/fastapi_offline/static"))

    class Files(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return str(static / Path(path).name)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(scratch, "cdn", "DNS:cdn.jsdelivr.net"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="session")
def browser(scratch: Path, cdn: int) -> Iterator[webdriver.Chrome]:
    rules = f"--host-resolver-rules=MAP cdn.jsdelivr.net 127.0.0.1:{cdn}"
    with chromium(scratch, rules, "--ignore-certificate-errors") as driver:
        yield driver


@pytest.fixture(scope="session")
def ray() -> Iterator[int]:
    """Return the port of a Ray Serve with several applications, as `rayproxy deploy` would configure it."""
    applications = [
        {"name": name, "route_prefix": route, "import_path": path}
        for name, route, path in (
            ("one", "/", "fastapi_app:one"),
            ("shop", "/shop", "fastapi_app:shop"),
            ("gradio", "/gradio", "gradio_on_ray:application"),
        )
    ]
    with ray_serve(APPS, *applications, root_path=PREFIX, python=PYTHON) as port:
        yield port


@contextmanager
def page(*command: str | Path) -> Iterator[None]:
    """Run an application from the pages' environment."""
    silent = subprocess.DEVNULL
    process = subprocess.Popen([PYTHON, *command], env=os.environ | QUIET, stdout=silent, stderr=silent)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def site(folder: Path, make_daemon: Callable[..., Daemon]) -> Iterator[Site]:
    """Return a function from an application's port to its address at the front end, once it answers there."""
    with ExitStack() as stack:

        def made(port: int, **settings: str) -> str:
            manifests = Manifests(folder / "m", port)
            manifests.routed("page")
            daemon = make_daemon(SOURCE="manifests", MANIFESTS=str(manifests.folder), WORKERS="1", **settings).start()
            until("the application answers", lambda: daemon.route("page").status < 500, START)
            return f"http://127.0.0.1:{stack.enter_context(frontend(folder, daemon.port))}{PREFIX}/"

        yield made
