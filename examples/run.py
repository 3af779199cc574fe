"""The main job on this machine, on loopback: a model behind Ray Serve, nginx in front, rayproxy between them.

Ends with the documented calls and what they answered, and goes on until Ctrl-C. `--stand-in` has a small
server in the model's place, which is there at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUN = HERE.parent / ".run"
SERVING = HERE.parent / ".venv-serving/bin/python"
JSON = "Content-Type: application/json; charset=utf-8"
QUESTION = """{
  "temperature": 0.95,
  "secretKey": "dasdada",
  "invoke_method": "async",
  "prompt": [
    {
      "content": "你好",
      "role": "user"
    }
  ],
  "incremental": false
}"""
CALLS = [("/inference", '{\n  "input": "你好",\n}'), ("/embeddings/QuestionAnswer?stream=true", QUESTION)]


def main() -> int:
    """Start everything, show the documented calls, wait."""
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    _refuse_taken(arguments)
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(_model(arguments))
        _wait(f"http://127.0.0.1:{arguments.model_port}/ready", 600, started)
        started.append(_proxy(arguments))
        _wait(f"http://{_reachable(arguments.admin_listen)}/readyz", 30, started)
        base = f"http://{_reachable(arguments.listen)}/apis/rayservice/qa-service-chatglm3"
        for path, body in CALLS:
            _show(base + path, body)
        print(f"\nRunning at {base}/... . Ctrl-C ends it. What is routed, and why not:", flush=True)
        print(f"    .venv/bin/rayproxy routes --state-dir {arguments.state_dir}", flush=True)
        while all(process.poll() is None for process in started):
            time.sleep(0.2)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stand-in", action="store_true", help="no model: a server that only knows its lines")
    parser.add_argument("--base-model", type=Path, help="the folder of a model of yours, in the small one's place")
    parser.add_argument(
        "--checkpoint", type=Path, help="and of what was fine-tuned of it: an adapter, or a whole model"
    )
    parser.add_argument("--model-port", type=int, default=8000, help="where the model listens")
    listen, admin = (os.environ.get(f"RAYPROXY_{name}") for name in ("LISTEN", "ADMIN_LISTEN"))
    parser.add_argument(
        "--listen", default=listen or "127.0.0.1:8080", help="where callers come (default: %(default)s)"
    )
    parser.add_argument("--admin-listen", default=admin or "127.0.0.1:9090", help="metrics (default: %(default)s)")
    parser.add_argument("--state-dir", type=Path, default=RUN / "rayproxy", help="the proxy's folder")
    arguments = parser.parse_args()
    if arguments.checkpoint and not arguments.base_model:
        parser.error("a checkpoint is of a base model: make run BASE_MODEL=... CHECKPOINT=...")
    if arguments.base_model and arguments.stand_in:
        parser.error("the stand-in serves no model: leave out --stand-in or --base-model")
    return arguments


def _refuse_taken(arguments: argparse.Namespace) -> None:
    """End where somebody listens already: an answer of theirs would be taken for one of ours."""
    wanted = {
        "--model-port": f"127.0.0.1:{arguments.model_port}",
        "--listen": _reachable(arguments.listen),
        "--admin-listen": _reachable(arguments.admin_listen),
    }
    for flag, address in wanted.items():
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), 1):
            sys.exit(f"somebody listens at {address} already: end that first, or choose another address with {flag}")


def _reachable(listen: str) -> str:
    """Return an address of what listens: a port alone is every address."""
    return listen if ":" in listen else f"127.0.0.1:{listen}"


def _model(arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    """Start what answers."""
    if arguments.stand_in:
        return _start([sys.executable, str(HERE / "stand_in.py"), f"127.0.0.1:{arguments.model_port}"])
    model = _own(arguments) if arguments.base_model else _demo()
    print("Starting Ray Serve (about 20 s) ...", flush=True)
    where = ["--port", arguments.model_port, "--state-dir", RUN / "ray"]
    return _start([str(part) for part in (SERVING, HERE / "demo/serve.py", *model, *where)])


def _demo() -> list[str | Path]:
    """Fetch and teach the small model; return what serve.py is told of it."""
    prepared = subprocess.run([SERVING, HERE / "demo/prepare.py", "--cache", RUN / "model"], check=False)
    if prepared.returncode != 0:
        sys.exit("the demo's model could not be prepared: its words are above")
    return ["--model", RUN / "model/base", "--adapter", RUN / "model/adapter"]


def _own(arguments: argparse.Namespace) -> list[str | Path]:
    """Return what serve.py is told of a model of one's own, with the whole of its context."""
    checkpoint = ["--adapter", arguments.checkpoint.resolve()] if arguments.checkpoint else []
    return ["--model", arguments.base_model.resolve(), *checkpoint, "--max-length", "0"]


def _proxy(arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    """Start rayproxy, and with it nginx, on the manifests of this folder."""
    settings = {
        "SOURCE": "manifests",
        "MANIFESTS": str(_manifests(arguments)),
        "STATE_DIR": str(arguments.state_dir.resolve()),
        "LISTEN": arguments.listen,
        "ADMIN_LISTEN": arguments.admin_listen,
        "LOG_LEVEL": "warning",
    }
    environment = {f"RAYPROXY_{name}": value for name, value in settings.items()}
    return _start([sys.executable, "-m", "rayproxy", "run"], environment)


def _manifests(arguments: argparse.Namespace) -> Path:
    """Return the folder of manifests, with the model's port in it where that is not the usual one."""
    if arguments.model_port == 8000:
        return HERE / "manifests"
    copy = arguments.state_dir.resolve() / "manifests"
    shutil.copytree(HERE / "manifests", copy, dirs_exist_ok=True)
    for path in copy.glob("*.yaml"):
        path.write_text(path.read_text().replace("port: 8000", f"port: {arguments.model_port}"))
    return copy


def _start(command: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env={**os.environ, **(environment or {})}, start_new_session=True)


def _wait(url: str, seconds: float, started: list[subprocess.Popen[bytes]]) -> None:
    """Wait until 200 comes back: Ray Serve says 404 before it knows a route, and the model 503 before it is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for process in started:
            if process.poll() is not None:
                sys.exit(f"{process.args} ended: its words are above")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{url} did not answer 200 within {seconds:g} s: the log above says why")


def _show(url: str, body: str) -> None:
    """Print a call ready to paste, and what came back."""
    print(f"\n$ curl -N -X POST '{url}' \\\n    -H '{JSON}' \\\n    -d '{body}'", flush=True)
    subprocess.run(["curl", "-sSN", "-X", "POST", url, "-H", JSON, "-d", body], check=False)
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
