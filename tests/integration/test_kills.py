"""The daemon is killed at every step of writing and applying a revision; a new one ends up right."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests, routed_names
from tests.support.processes import masters
from tests.support.waiting import until

New = Callable[..., Daemon]

# Where the daemon dies: before (or after) a call, the n-th time that it happens once it was told to.
STEPS = {
    "before the first file": ("pathlib.Path.write_text", "before", 1),
    "between two files": ("pathlib.Path.write_text", "before", 3),
    "before the tree gets its name": ("pathlib.Path.rename", "before", 1),
    "after the tree got its name": ("pathlib.Path.rename", "after", 1),
    "before nginx -t": ("rayproxy.nginx.process.Nginx.test", "before", 1),
    "after nginx -t": ("rayproxy.nginx.process.Nginx.test", "after", 1),
    "before the link is made": ("pathlib.Path.symlink_to", "before", 1),
    "before the link is switched": ("pathlib.Path.symlink_to", "after", 1),
    "after the link is switched": ("rayproxy.nginx.process.Nginx.reload", "before", 1),
    "after HUP": ("rayproxy.nginx.procfs.send", "after", 1),
    "after the proof": ("rayproxy.nginx.process.Nginx.reload", "after", 1),
    "before the disk is synced": ("os.fsync", "before", 1),
    "while old revisions are removed": ("shutil.rmtree", "before", 1),
    "before the report": ("rayproxy.report.status.write", "before", 1),
}
CODE = """
import importlib, os, signal, sys

name, when, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
parts = name.split(".")
for cut in range(len(parts) - 1, 0, -1):
    try:
        owner = importlib.import_module(".".join(parts[:cut]))
        break
    except ImportError:
        continue
for part in parts[cut:-1]:
    owner = getattr(owner, part)
original = getattr(owner, parts[-1])

def hooked(*arguments, **options):
    global count
    armed = os.path.exists(os.environ["ARMED"])
    count -= armed
    if armed and count == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **options)
    if armed and count == 0 and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, parts[-1], hooked)
from rayproxy.__main__ import main
sys.exit(main(["run"]))
"""


def start_with_fault(daemon: Daemon, armed: Path, step: str) -> None:
    name, when, count = STEPS[step]
    with daemon.log.open("ab") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", CODE, name, when, str(count)],
            env=daemon.environment | {"ARMED": str(armed)}, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    until("ready", daemon.is_ready)


def loads(daemon: Daemon) -> bool:
    conf = str(daemon.state / "current/nginx.conf")
    return subprocess.run(["nginx", "-t", "-q", "-c", conf], check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.fault(48)
@pytest.mark.fault(53)
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_a_live_revision_and_the_next_daemon_reaches_the_model(
    new_daemon: New, manifests: Manifests, folder: Path, step: str
):
    for name in ("a", "b", "c"):
        manifests.routed(name)
    daemon = new_daemon(WORKERS="1")
    armed = folder / "armed"
    start_with_fault(daemon, armed, step)
    for number in range(3):  # so that there is something to remove
        manifests.routed(f"old{number}")
        daemon.until_state(f"old{number}", "accepted")
    armed.touch()
    manifests.routed("new")
    manifests.remove("a")
    assert daemon.process
    assert daemon.process.wait(20) == -signal.SIGKILL
    assert loads(daemon)
    assert daemon.answers_from("b", "upstream"), "nginx goes on"
    daemon.start()
    until("the model", lambda: routed_names(daemon) == {"b", "c", "new", "old0", "old1", "old2"})
    until(
        "it is served", lambda: daemon.answers_from("new", "upstream") and daemon.error("a") == "rayservice_not_found"
    )
    assert len(masters(daemon)) == 1
    folder = daemon.state / "revisions"
    until("no leftovers, once it has pruned", lambda: not list(folder.glob(".*")))
    left = [path.name for path in folder.iterdir()]
    assert len(left) <= 5
    assert sorted(path.name for path in daemon.state.glob(".*")) == []
