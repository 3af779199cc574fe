"""Serve a model with Ray Serve from the zip that a RayService would use, until told to end.

    python examples/demo/serve.py --model .run/model/base --adapter .run/model/adapter --port 8000

Prints `ready http://127.0.0.1:8000` when the model answers. SIGTERM or Ctrl-C ends all of it.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import processes
from ray_node import LOOPBACK, RayNode

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STARTUP = 300.0  # seconds


class NotServedError(RuntimeError):
    """Ray could not bring the application up."""


def main() -> int:
    """Read the arguments, serve, and return the exit code."""
    arguments = _arguments()
    if _is_taken(arguments.port):
        print(f"serve: port {arguments.port} is taken: choose another with --port", file=sys.stderr)
        return 1
    for number in SIGNALS:
        signal.signal(number, _end)
    processes.adopt_orphans()
    config = _config(arguments.zip or _build_zip(), arguments.port)
    node = RayNode(arguments.state_dir.resolve(), _environment(arguments))
    try:
        _serve(node, config, arguments.port)
    except NotServedError as error:
        print(f"serve: {error}", file=sys.stderr)
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the end is on its way
        node.stop()
    return 1


def _serve(node: RayNode, config: dict[str, Any], port: int) -> NoReturn:
    """Serve until a signal ends it; raise NotServedError if Ray ends before."""
    _bring_up(node, config, port)
    print(f"ready http://{LOOPBACK}:{port}", flush=True)
    node.process.wait()
    raise NotServedError(f"Ray ended by itself: see {node.log}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a model with Ray Serve until told to end.")
    parser.add_argument("--model", type=Path, required=True, help="the model's folder")
    parser.add_argument("--adapter", type=Path, help="a LoRA adapter of it, or a full checkpoint")
    parser.add_argument("--name", default="demo", help="the model's name for clients (default: %(default)s)")
    parser.add_argument(
        "--max-length", type=int, default=2048, help="tokens of a prompt and its answer; 0: all of its context"
    )
    parser.add_argument("--port", type=int, default=8000, help="where it answers (default: %(default)s)")
    parser.add_argument("--state-dir", type=Path, default=ROOT / ".run" / "ray", help="where logs go")
    parser.add_argument("--zip", type=Path, help="the working_dir (default: built from serving/)")
    return parser.parse_args()


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def _build_zip() -> Path:
    command = [sys.executable, str(ROOT / "tools" / "inference_zip.py")]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def _environment(arguments: argparse.Namespace) -> dict[str, str]:
    environment = {
        "BASE_MODEL_DIR": str(arguments.model.resolve()),
        "MODEL_NAME": arguments.name,
    }
    if arguments.max_length:
        environment["MAX_LENGTH"] = str(arguments.max_length)
        environment["SERVING_KV_CACHE_TOKENS"] = str(4 * arguments.max_length)
    if arguments.adapter:
        environment["CHECKPOINT_DIR"] = str(arguments.adapter.resolve())
    return environment


def _config(archive: Path, port: int) -> dict[str, Any]:
    """Return what a RayService's serveConfig says, with this node's address."""
    application = {
        "name": "default",
        "route_prefix": "/",
        "import_path": "inference.deployment",
        "runtime_env": {"working_dir": archive.resolve().as_uri()},
        "deployments": [{"name": "LlamaDeployment", "num_replicas": 1, "ray_actor_options": {"num_cpus": 1}}],
    }
    http = {"host": LOOPBACK, "port": port}
    return {"proxy_location": "HeadOnly", "http_options": http, "applications": [application]}


def _bring_up(node: RayNode, config: dict[str, Any], port: int) -> None:
    deadline = time.monotonic() + STARTUP
    while not _try(node.deploy, config):
        _check(node, deadline)
    while not _is_ready(port):
        _check(node, deadline)
        state = node.application()
        if state.get("status") in {"DEPLOY_FAILED", "UNHEALTHY"}:
            raise NotServedError(_reason(state))


def _reason(state: dict[str, Any]) -> str:
    messages = [state.get("message"), *(one.get("message") for one in state.get("deployments", {}).values())]
    return "\n".join([state["status"], *(message for message in messages if message)])


def _try(act: Any, *arguments: Any) -> bool:  # noqa: ANN401
    try:
        act(*arguments)
    except urllib.error.HTTPError as error:
        raise NotServedError(f"Ray answered {error.code}: {error.read().decode(errors='replace')}") from error
    except OSError:  # nobody listens yet
        return False
    return True


def _check(node: RayNode, deadline: float) -> None:
    """Wait a moment; raise if the node has ended or the time is up."""
    time.sleep(0.1)
    if node.process.poll() is not None:
        raise NotServedError(f"Ray did not start: see {node.log}")
    if time.monotonic() > deadline:
        raise NotServedError(f"not ready after {STARTUP:.0f} s: see {node.log}")


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # refused, timed out, or 404 and 503, which are HTTPErrors
        return False


if __name__ == "__main__":
    sys.exit(main())
