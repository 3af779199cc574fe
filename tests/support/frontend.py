"""Front ends before the proxy: that of examples/, as it stands but for its ports, and one of nginx's own defaults."""

from __future__ import annotations

import re
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
def frontend(folder: Path, proxy_port: int, nginx: str = NGINX, addresses: int = 1) -> Iterator[int]:
    """Run the front end with `proxy_port` as the proxy's, which may have several addresses; yield its own port."""
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
    (server,) = re.findall(r"server 127\.0\.0\.1:[^;]*;", text)
    text = text.replace(server, server * addresses)
    conf.write_text(text)
    with _running([nginx, "-p", folder / "site", "-c", "nginx.conf"], port, "/"):
        yield port


DEFAULT = """daemon off; error_log stderr; pid {folder}/front.pid; events {{}}
http {{ access_log off; proxy_temp_path {folder}/p; client_body_temp_path {folder}/b;
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; }} }} }}
"""


@contextmanager
def default_nginx(folder: Path, behind: int) -> Iterator[int]:
    """Run an nginx whose every directive has its default, which gathers answers; yield its port."""
    port = free_port()
    conf = folder / "front.conf"
    conf.write_text(DEFAULT.format(folder=folder, port=port, behind=behind))
    with _running([NGINX, "-p", folder, "-c", conf], port, "/-/healthz"):
        yield port


@contextmanager
def _running(command: list[str | Path], port: int, asked: str) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until("the front end answers", lambda: _answers(port, asked))
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int, asked: str) -> bool:
    try:
        return request(("127.0.0.1", port), asked).status == 200
    except OSError:
        return False
