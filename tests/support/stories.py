"""What `rayproxy deploy --wait` tells of each recording: golden files."""

from __future__ import annotations

from pathlib import Path

from rayproxy.checkpoint.progress import Story, progress
from rayproxy.checkpoint.stages import STAGES
from rayproxy.checkpoint.wait import SETTLE_SECONDS
from tests.support import golden, recorded

NAMES = sorted(path.stem for path in recorded.FOLDER.glob("*.jsonl"))


def path(name: str) -> Path:
    """Return the golden file of a recording."""
    return golden.TESTS / "golden" / "wait" / f"{name}.txt"


def told(name: str) -> str:
    """Return the lines of a recording, as a person without a proxy sees them."""
    story = Story(len(STAGES) - 1, 0.0 if name.startswith(("create", "failing")) else SETTLE_SECONDS)
    lines: list[str] = []
    for second, seen in recorded.looks(name, _service(name)):
        now = progress(seen)
        if now.failure:
            return "\n".join([*lines, now.failure, ""])
        story, line = story.hear(now, second)
        lines += [line] if line else []
        if story.over:
            break
    return "\n".join([*lines, ""])


def _service(name: str) -> str:
    return "broken-service" if name.startswith("failing") else "ck-llama2-7b-service"
