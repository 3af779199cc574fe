"""What a training framework put into the names of the tensors: torch.compile, DDP, FSDP, PEFT."""

from __future__ import annotations

import re
from collections.abc import Iterable

# A wrapper may sit around any module; the others stand before every name of a file, or mean something else.
INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
BEFORE_ALL = ("module.", "base_model.model.")


def found_in(names: Iterable[str], before_all: Iterable[str] = BEFORE_ALL) -> dict[str, str]:
    """Return patterns and what to put in their place, empty where the names are as the model has them.

    Only what leaves each tensor a name of its own.
    """
    kept = set(names)
    count, patterns = len(kept), {}
    for wrapper in INSIDE:
        pattern = rf"(?<![^.]){re.escape(wrapper)}"
        bare = {re.sub(pattern, "", name) for name in kept}
        if bare != kept and len(bare) == count:
            patterns[pattern], kept = "", bare
    for wrapper in before_all:
        if kept and all(name.startswith(wrapper) for name in kept):
            patterns[f"^{re.escape(wrapper)}"] = ""
            kept = {name.removeprefix(wrapper) for name in kept}
    return patterns


def strip(name: str, patterns: dict[str, str]) -> str:
    """Return the name without the wrappers."""
    for pattern, put in patterns.items():
        name = re.sub(pattern, put, name)
    return name
