"""Start each way to serve the model, and measure it. Every one computes with one thread."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import inference_zip
import processes
from proxy import proxy
from ray_node import LOOPBACK, RayNode, free_ports

from bench.ending import at_sigterm
from bench.serving import ROOT, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STARTUP = 300.0  # seconds
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
CHAT = "/v1/chat/completions"
OURS, ORIGINAL = "serving", "original"


class Way(Protocol):
    """One way to serve the model."""

    name: str
    pids: list[int]  # the processes, with all their descendants, that do the work

    def measure(self, clients: int, each: int, tokens: int) -> dict[str, float]:
        """Return the figures of `clients` that ask `each` questions for answers of `tokens` tokens."""
        ...


class Http:
    """A server with OpenAI's chat route."""

    def __init__(self, name: str, address: str, model: str, pids: list[int]) -> None:
        self.name, self.address, self._model, self.pids = name, address, model, pids

    def measure(self, clients: int, each: int, tokens: int) -> dict[str, float]:
        """Ask over HTTP."""
        return asyncio.run(load.measure(self.address + CHAT, self._model, clients, each, tokens)).as_dict()


class Engine:
    """The engine alone, in a process of its own."""

    name = "engine alone"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self.pids = process, [process.pid]

    def measure(self, clients: int, each: int, tokens: int) -> dict[str, float]:
        """Tell the process to ask its engine."""
        assert self._process.stdin and self._process.stdout  # noqa: PT018
        self._process.stdin.write(f"{clients} {each} {tokens}\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))


def end_cleanly_on_sigterm() -> None:
    """Let a SIGTERM unwind the stack, which ends all that was started; adopt what would be orphaned."""
    at_sigterm()
    processes.adopt_orphans()


@contextmanager
def ray_serve(model: Path, state: Path, *, original: bool) -> Iterator[list[Http]]:
    """Run this project's server, and the original's way if asked for, on one Ray node, each behind nginx."""
    environment = {
        **ONE_THREAD,
        "BASE_MODEL_DIR": str(model),
        "MODEL_NAME": "bench",
        "SERVING_THREADS": "1",
        "SERVING_MAX_RUNNING": "64",
        "RAY_worker_niceness": "0",  # 15 by default: behind all the others here, who have no Ray
    }
    port, listen = free_ports(2)
    state.mkdir(parents=True, exist_ok=True)
    node = RayNode(state, environment)
    try:
        base = f"http://{LOOPBACK}:{port}"
        _wait_until("Ray's REST interface", lambda: _deployed(node, _applications(port, original=original)))
        _wait_until("this project's server", lambda: _answers(f"{base}/{OURS}/ready"))
        if original:
            _wait_until("the original's way", lambda: _answers(f"{base}/{ORIGINAL}/ready"))
        with proxy(state, f"{LOOPBACK}:{listen}", {"model": port}) as front:
            prefix = f"{front.url}/apis/rayservice/model"
            pids = [node.process.pid, front.pid]
            both = [
                Http("serving (nginx, Ray Serve)", f"{prefix}/{OURS}", "bench", pids),
                Http("generate in a thread (nginx, Ray Serve)", f"{prefix}/{ORIGINAL}", "bench", pids),
            ]
            yield both if original else both[:1]
    finally:
        node.stop()


def _deployed(node: RayNode, applications: Mapping[str, Any]) -> bool:
    node.deploy(applications)
    return True


def _applications(port: int, *, original: bool) -> dict[str, Any]:
    output = ROOT / "build"
    applications = [_application(OURS, "inference.deployment", inference_zip.write(ROOT / "serving", output))]
    if original:
        folder = output / "bench-original"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "original.py").write_bytes(Path(__file__).with_name("thread_per_request.py").read_bytes())
        applications.append(_application(ORIGINAL, "original.deployment", inference_zip.write(folder, output)))
    http = {"host": LOOPBACK, "port": port}
    return {"proxy_location": "HeadOnly", "http_options": http, "applications": applications}


def _application(name: str, import_path: str, archive: Path) -> dict[str, Any]:
    environment = {"working_dir": archive.as_uri()}
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": import_path,
        "runtime_env": environment,
    }


@contextmanager
def engine_alone(model: Path) -> Iterator[list[Way]]:
    """Run the engine in a process of its own."""
    command = [sys.executable, "-m", "bench.serving.engine_alone"]
    environment = {"BASE_MODEL_DIR": str(model), "SERVING_THREADS": "1", "SERVING_MAX_RUNNING": "64"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=_environment(environment), **pipes) as process:
        try:
            assert process.stdout
            while (line := process.stdout.readline()) != "ready\n":
                if not line:
                    raise RuntimeError("the engine did not start")
            yield [Engine(process)]
        finally:
            process.terminate()


@contextmanager
def transformers_serve(model: Path, log: Path, *, batching: bool) -> Iterator[list[Way]]:
    """Run `transformers serve`, with or without its continuous batching."""
    (port,) = free_ports(1)
    options = ["--host", LOOPBACK, "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    if batching:
        cache = ["--cb-num-blocks", "512", "--cb-block-size", "64"]
        options += ["--continuous-batching", "--attn-implementation", "sdpa", *cache]
    program = str(Path(sys.executable).with_name("transformers"))
    name = "transformers serve" + (" --continuous-batching" if batching else "")
    with _server([program, "serve", str(model), *options], log, f"http://{LOOPBACK}:{port}") as (url, pid):
        yield [Http(name, url, str(model), [pid])]


@contextmanager
def vllm(python: Path, model: Path, log: Path) -> Iterator[list[Way]]:
    """Run vLLM's server from another environment's Python."""
    (port,) = free_ports(1)
    module = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    options = ["--host", LOOPBACK, "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    limits = ["--max-model-len", "2048", "--served-model-name", "bench", "--max-num-seqs", "64"]
    with _server([*module, *options, *limits], log, f"http://{LOOPBACK}:{port}") as (url, pid):
        yield [Http("vLLM (its CPU build)", url, "bench", [pid])]


@contextmanager
def _server(command: list[str], log: Path, address: str) -> Iterator[tuple[str, int]]:
    """Run a server until the end; yield its address and process once it is healthy."""
    extra = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as output, ExitStack() as stack:
        process = subprocess.Popen(command, env=_environment(extra), stdout=output, stderr=output)
        stack.callback(process.wait)
        stack.callback(process.terminate)

        def healthy() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended by itself: see {log}")
            return _answers(f"{address}/health")

        _wait_until(command[0], healthy)
        yield address, process.pid


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **ONE_THREAD, **extra}


def _wait_until(what: str, condition: Any) -> None:  # noqa: ANN401
    deadline, last = time.monotonic() + STARTUP, "no answer"
    while True:
        try:
            if condition():
                return
        except OSError as error:  # nobody listens yet
            last = str(error)
        if time.monotonic() > deadline:
            raise RuntimeError(f"not there after {STARTUP:.0f} s: {what} ({last})")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
