"""The ways from a caller to the model: direct, by either template, and with another nginx in front."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.differential.recorder import Recorder
from tests.support.daemon import Daemon
from tests.support.frontend import frontend
from tests.support.http import free_port
from tests.support.manifests import Manifests
from tests.support.waiting import until

FETCH = Path(__file__).parents[1] / "support/fetch-nginx.sh"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rayproxy/nginx-trixie"
DOORS = {  # settings of each
    "prefix": {"TEMPLATE": "prefix"},
    "regex": {"TEMPLATE": "regex"},
    "streamed": {"TEMPLATE": "prefix", "STREAM_BODIES": "chat"},
}
PREFIX = b"/apis/rayservice/chat/"
MAX_BODY = 64 * 1024


@dataclass(frozen=True)
class Way:
    """Hold a way's port, where the model's paths begin there, and the way it is compared with."""

    name: str
    port: int
    base: bytes = PREFIX
    beside: str = "direct"
    through_a_door: bool = True


def image_nginx() -> str:
    """Return the nginx of the image, fetched once; raise CalledProcessError."""
    subprocess.run(["bash", str(FETCH), str(CACHE)], check=True)
    return str(CACHE / "nginx")


def version(binary: str) -> str:
    """Return an nginx's major and minor version, such as 1.22."""
    words = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/([0-9]+\.[0-9]+)", words)
    assert found, words
    return found[1]


@contextmanager
def ways(binary: str, recorder: Recorder) -> Iterator[list[Way]]:
    """Start every nginx that the ways need; yield the ways, `direct` first and each after the one beside it."""
    with ExitStack() as stack:
        doors = {name: stack.enter_context(_door(binary, own, recorder.port)) for name, own in DOORS.items()}
        plain = stack.enter_context(_plain(binary, [recorder.port, doors["prefix"], doors["regex"]]))
        found = [
            Way("direct", recorder.port, b"/", through_a_door=False),
            Way("plain", plain[0], through_a_door=False),
        ]
        for name, door in doors.items():
            found += [Way(name, door), Way(f"frontend+{name}", stack.enter_context(_frontend(binary, door)))]
        for name, behind in zip(("prefix", "regex"), plain[1:], strict=True):  # its body comes in one piece anyway
            found.append(Way(f"plain+{name}", behind, beside="plain"))
        yield found


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rp-"))  # short enough for a unix socket
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _door(binary: str, own: dict[str, str], upstream: int) -> Iterator[int]:
    with _folder() as folder:
        manifests = Manifests(folder / "m", upstream)
        manifests.routed("chat")
        settings = {
            "SOURCE": "manifests", "MANIFESTS": str(manifests.folder), "WORKERS": "1", **own,
            "MAX_BODY": f"{MAX_BODY // 1024}k", "READ_TIMEOUT": "30", "NGINX_BINARY": binary,
        }  # fmt: skip
        daemon = Daemon(folder, settings)
        try:
            yield daemon.start().port
        finally:
            daemon.clean_up()


@contextmanager
def _frontend(binary: str, door: int) -> Iterator[int]:
    with _folder() as folder, frontend(folder, door, binary) as port:
        yield port


@contextmanager
def _plain(binary: str, upstreams: list[int]) -> Iterator[list[int]]:
    """Run an nginx that proxies with the defaults of proxy_pass; yield a port for each upstream."""
    with _folder() as folder:
        ports = [free_port() for _ in upstreams]
        (folder / "nginx.conf").write_text(_plain_conf(folder, dict(zip(ports, upstreams, strict=True))))
        process = subprocess.Popen([binary, "-p", folder, "-c", "nginx.conf"], stderr=subprocess.DEVNULL)
        try:
            until("the plain nginx runs", lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip())
            yield ports
        finally:
            process.terminate()
            process.wait()


def _plain_conf(folder: Path, upstreams: dict[int, int]) -> str:
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }}\n"
        for port, upstream in upstreams.items()
    )
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; worker_processes 1; error_log stderr; pid {folder}/pid;\nevents {{ }}\n"
        f"http {{ access_log off; {temporary}\n{servers}}}\n"
    )
