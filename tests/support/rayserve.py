"""Ray Serve beside the proxy's tests, from the model server's environment."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.http import free_port

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-serving/bin/python"
MISSING = "no Ray Serve: `make install-serving` makes .venv-serving"


@contextmanager
def ray_serve(
    source: Path, *applications: dict[str, Any], root_path: str = "", python: Path = PYTHON
) -> Iterator[int]:
    """Serve applications whose modules lie in `source`, as ServeDeploySchema has them; yield Ray Serve's port."""
    port = free_port()
    http = {"host": "127.0.0.1", "port": port, "root_path": root_path}
    config = {"proxy_location": "HeadOnly", "http_options": http, "applications": list(applications)}
    with tempfile.TemporaryDirectory(prefix="rp-ray-") as state:
        command = [str(python), "-P", str(ROOT / "tests/support/ray_apps.py"), state, str(source), json.dumps(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            try:
                said = process.stdout.readline()
                assert said == b"ready\n", (Path(state) / "ray.log").read_text()[-4000:]
                yield port
            finally:
                process.terminate()
                process.wait()
