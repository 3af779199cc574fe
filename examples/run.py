"""The main job on this machine: a stand-in model, nginx, and rayproxy on the manifests of this folder.

Ends with the documented calls and what they answered; then it goes on until Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
LISTEN = os.environ.get("RAYPROXY_LISTEN", "127.0.0.1:8080")
ADMIN = os.environ.get("RAYPROXY_ADMIN_LISTEN", "127.0.0.1:9090")
BACKEND = "127.0.0.1:8000"  # as manifests/qa-service-chatglm3.yaml says
BASE = f"http://{LISTEN}/apis/rayservice/qa-service-chatglm3"
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
CALLS = [
    (f"{BASE}/inference", '{\n  "input": "你好",\n}'),
    (f"{BASE}/embeddings/QuestionAnswer?stream=true", QUESTION),
]


def main() -> int:
    """Start both, show the documented calls, wait."""
    environment = {
        "RAYPROXY_SOURCE": "manifests",
        "RAYPROXY_MANIFESTS": str(HERE / "manifests"),
        "RAYPROXY_STATE_DIR": str(Path(".run/rayproxy").absolute()),
        "RAYPROXY_LISTEN": LISTEN,
        "RAYPROXY_ADMIN_LISTEN": ADMIN,
        **os.environ,
    }
    processes = [
        subprocess.Popen([sys.executable, str(HERE / "stand_in.py"), BACKEND], start_new_session=True),
        subprocess.Popen([sys.executable, "-m", "rayproxy", "run"], env=environment, start_new_session=True),
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        wait_ready(processes)
        for url, body in CALLS:
            show(url, body)
        print("\nRunning. Ctrl-C ends it.", flush=True)
        while all(process.poll() is None for process in processes):
            time.sleep(0.2)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait()


def wait_ready(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until nginx answers for the route."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for process in processes:
            if process.poll() is not None:
                sys.exit(f"{' '.join(map(str, process.args))} ended: its words are above")  # type: ignore[arg-type]
        try:
            with urllib.request.urlopen(f"http://{ADMIN}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"http://{ADMIN}/readyz did not become ready within 20 s: the log above says why")


def show(url: str, body: str) -> None:
    """Print a call ready to paste, and what came back."""
    print(f"\n$ curl -N -X POST '{url}' \\\n    -H '{JSON}' \\\n    -d '{body}'", flush=True)
    subprocess.run(["curl", "-sSN", "-X", "POST", url, "-H", JSON, "-d", body], check=False)
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
