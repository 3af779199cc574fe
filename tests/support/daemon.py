"""A rayproxy of the test's own: its process, folders and ports, and what can be asked of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.support.http import Answer, free_port, request
from tests.support.raw import NGINX
from tests.support.waiting import until

T = TypeVar("T")


@dataclass
class Daemon:
    """Start `rayproxy run` with a managed nginx; `settings` are RAYPROXY_... without the prefix."""

    folder: Path
    settings: dict[str, str]
    port: int = 0
    admin_port: int = 0
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"  # where it is asked
    before: tuple[str, ...] = ()  # the words before its command, such as those of a program that starts it

    def __post_init__(self) -> None:
        self.port = self.port or free_port()
        self.admin_port = self.admin_port or free_port()
        self.state = self.folder / "s"
        defaults = {
            "STATE_DIR": str(self.state),
            "LISTEN": f"127.0.0.1:{self.port}",
            "ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "LOG_LEVEL": "debug",
            "NGINX_BINARY": NGINX,
        }
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAYPROXY_", "KUBE"))},
            **{
                f"RAYPROXY_{name}" if name != "KUBECONFIG" else name: value
                for name, value in (defaults | self.settings).items()
            },
            **self.environment,
        }

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    def start(self, *, ready: bool = True) -> Daemon:
        """Start it, and wait until /readyz says so and what it found is written down, which comes a moment later."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, sys.executable, "-m", "rayproxy", "run"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if ready:
            self._until("ready", self.is_ready, 60)
            self._until("what it found is written", (self.state / "status.json").exists)
        return self

    def _until(self, what: str, look: Callable[[], T | None], seconds: float = 15) -> T:
        """Wait, and show the log as it is at the end where waiting was in vain."""
        try:
            return until(what, look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\nits log:\n{self.tail()}") from None

    def told(self) -> str:
        """Return all that it logged, nginx's own lines included."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        """Return the end of that, for a message: what a test looks for may stand before it."""
        return self.told()[-4000:]

    def is_ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.tail()}"
        return self.admin("/readyz")[0] == 200

    def admin(self, path: str, timeout: float = 5) -> tuple[int, str]:
        """GET from the admin server; status 0 when nobody answers."""
        try:
            host = f"[{self.host}]" if ":" in self.host else self.host
            with urllib.request.urlopen(f"http://{host}:{self.admin_port}{path}", timeout=timeout) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """Return a sample's value, labels included in the name; 0 where it is not there."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.admin("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    @property
    def reloads(self) -> int:
        return int(self.metric('rayproxy_reloads_total{result="success"}'))

    def get(self, target: str, **options) -> Answer:
        """Send a request to nginx."""
        return request((self.host, self.port), target, **options)

    def route(self, name: str, tail: str = "", **options) -> Answer:
        """Send a request below a RayService's prefix."""
        return self.get(f"/apis/rayservice/{name}/{tail}", **options)

    def answers_from(self, name: str, upstream: str) -> bool:
        """Tell whether the route leads to the upstream of this name; nobody at the port is a no."""
        try:
            answer = self.route(name)
        except OSError:
            return False
        return answer.status == 200 and answer.json.get("upstream") == upstream

    def error(self, name: str) -> str:
        """Return the error type that a caller of the route gets, or "" for success."""
        answer = self.route(name)
        return "" if answer.status == 200 else answer.error_type

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the status file."""
        path = self.state / "status.json"
        return json.loads(path.read_text()) if path.exists() else []

    def routes(self) -> dict[str, dict[str, Any]]:
        """Return {namespace/name: row} of the RayServices in the status file."""
        return {f"{row['namespace']}/{row['name']}": row for row in self.rows() if row["kind"] == "rayservice"}

    def until_state(self, name: str, state: str, namespace: str = "default") -> dict[str, Any]:
        """Wait until the daemon has reported the state, which it does once nginx is proven to serve it."""

        def look() -> dict[str, Any] | None:
            row = self.routes().get(f"{namespace}/{name}")
            return row if row and row["state"] == state else None

        return self._until(f"{name} is {state}", look)

    def until_gone(self, name: str, namespace: str = "default") -> None:
        """Wait until the daemon no longer knows the RayService."""
        until(f"{name} is gone", lambda: f"{namespace}/{name}" not in self.routes())

    def files(self) -> dict[str, str]:
        """Return the live revision's files, all of one revision, whatever the daemon replaces meanwhile."""

        def look() -> list[dict[str, str]]:
            try:
                revision = (self.state / "current").resolve()
                return [{path.name: path.read_text() for path in revision.glob("*.conf")}]
            except FileNotFoundError:  # pruned between the listing and the reading
                return []

        return until("a revision that stays while it is read", look)[0]

    def nginx_pid(self) -> int:
        return int((self.state / "run/nginx.pid").read_text())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the daemon and return its exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(15)

    def clean_up(self) -> None:
        """End whatever is left, by its own id."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self._nginx_left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _nginx_left(self) -> list[int]:
        """Return every nginx that was started for this folder, workers without a master included."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "comm").read_text() != "nginx\n":
                    continue
                files = [str(link.readlink()) for link in (entry / "fd").iterdir()]
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"{self.state}/" in command or any(file.startswith(f"{self.folder}/") for file in files):
                found.append(int(entry.name))
        return found
