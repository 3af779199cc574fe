"""The front end of examples/, as it stands but for its ports."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.http import free_port, request
from tests.support.raw import NGINX
from tests.support.waiting import until

FRONTEND = Path(__file__).parents[2] / "examples/frontend"


@contextmanager
def frontend(folder: Path, proxy_port: int, nginx: str = NGINX) -> Iterator[int]:
    """Run the front end with `proxy_port` as the proxy's; yield its own port."""
    shutil.copytree(FRONTEND, folder / "site")
    conf = folder / "site/nginx.conf"
    port = free_port()
    text = conf.read_text()
    for mine, own in (
        ("127.0.0.1:8080", f"127.0.0.1:{proxy_port}"),
        ("127.0.0.1:8090", f"127.0.0.1:{port}"),
        ("/tmp/rayproxy-frontend.pid", str(folder / "site.pid")),
    ):
        assert mine in text
        text = text.replace(mine, own)
    conf.write_text(text)
    process = subprocess.Popen([nginx, "-p", folder / "site", "-c", "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        until("the front end answers", lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return request(("127.0.0.1", port), "/").status == 200
    except OSError:
        return False
