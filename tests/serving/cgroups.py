"""A control group of the test's own, with limits: by hand, in version 1 or 2, as this machine has it."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

TOP = Path("/sys/fs/cgroup")


@contextmanager
def limited(memory, processors):
    """Yield the words to put before a command that runs within so many bytes and (parts of) processors."""
    name = f"llmserving-test-{uuid.uuid4().hex[:8]}"
    made = []
    try:
        for folder, limits in _wanted(name, memory, processors):
            folder.mkdir()
            made.append(folder)
            for file, value in limits.items():
                (folder / file).write_text(str(value))
    except OSError as error:
        _remove(made)
        pytest.skip(f"control groups cannot be made here ({error}): run as root where {TOP} is writable")
    join = "; ".join(f"echo $$ > {folder}/cgroup.procs" for folder in made)
    try:
        yield ["sh", "-c", f'{join}; exec "$0" "$@"']
    finally:
        _remove(made)


def _wanted(name, memory, processors):
    period = 100_000
    quota = int(processors * period)
    if (TOP / "cgroup.controllers").exists():
        return [(TOP / name, {"memory.max": memory, "memory.swap.max": 0, "cpu.max": f"{quota} {period}"})]
    return [
        (TOP / "memory" / name, {"memory.limit_in_bytes": memory}),
        (TOP / "cpu" / name, {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota}),
    ]


def _remove(folders):
    for folder in folders:
        if folder.exists():
            folder.rmdir()
