"""What `rayproxy deploy --wait` tells of each recording, and of one that is told otherwise: golden files."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rayproxy.checkpoint.progress import Story, progress
from rayproxy.checkpoint.stages import STAGES, Observed
from rayproxy.checkpoint.wait import SETTLE_SECONDS
from tests.support import golden, recorded

# As if the application that the change finds had failed, and the change mended it.
MENDED = "serve-config-1.7.0-mends-a-failure"
NAMES = sorted([MENDED, *(path.stem for path in recorded.FOLDER.glob("*.jsonl"))])


def path(name: str) -> Path:
    """Return the golden file of a recording."""
    return golden.TESTS / "golden" / "wait" / f"{name}.txt"


def told(name: str) -> str:
    """Return the lines of a recording, as a person without a proxy sees them."""
    story = Story(len(STAGES) - 1, 0.0 if name.startswith(("create", "failing")) else SETTLE_SECONDS)
    lines: list[str] = []
    for second, seen in _looks(name):
        story, line = story.hear(progress(seen), second)
        if story.failure:
            return "\n".join([*lines, story.failure, ""])
        lines += [line] if line else []
        if story.over:
            break
    return "\n".join([*lines, ""])


def _looks(name: str) -> Iterator[tuple[float, Observed]]:
    if name != MENDED:
        yield from recorded.looks(name, _service(name))
        return
    for second, seen in recorded.looks("serve-config-1.7.0", _service(name)):
        rayservice = copy.deepcopy(seen.rayservice) or {}
        found = rayservice["status"]["activeServiceStatus"]["applicationStatuses"]["default"]
        if found["status"] == "RUNNING":
            found |= {"status": "DEPLOY_FAILED", "message": "the fault that this very change mends"}
        yield second, replace(seen, rayservice=rayservice)


def _service(name: str) -> str:
    return "broken-service" if name.startswith("failing") else "ck-llama2-7b-service"
