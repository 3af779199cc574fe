"""The kinds of adapters that are served, and the files of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import headers, weights
from .folders import ADAPTER_CONFIG
from .headers import Shapes

WEIGHTS = "adapter_model.safetensors"

# They put vectors before the prompt, or choose among adapters as they read it: no layer of the model holds that.
BESIDE_THE_LAYERS = frozenset(
    {
        *("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"),
        *("ADAPTION_PROMPT", "XLORA", "POLY", "SHADOW"),
    }
)
SERVED = "LoRA and what changes a model's layers as it does (DoRA, AdaLoRA, IA3, LoHa, LoKr, OFT, VeRA...)"


def read_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json; raise ValueError for a kind that is not served, and say which are."""
    path = folder / ADAPTER_CONFIG
    content = path.read_bytes()
    headers.refuse_other_kinds(path, content[: headers.LOOK])
    try:
        config = json.loads(content)
        kind = config["peft_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: does not say what kind of adapter it is (peft_type): {error}") from error
    if kind in BESIDE_THE_LAYERS:
        raise ValueError(f"{path}: peft_type {kind} is not served: {SERVED} are")
    if config.get("alora_invocation_tokens"):
        raise ValueError(
            f"{path}: an activated LoRA (alora_invocation_tokens), which is on for a part of each text, "
            f"is not served: {SERVED} are"
        )
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise ValueError(f"{path}: task_type {config['task_type']}: an adapter that does not continue text")
    found: dict[str, Any] = config
    return found


def largest_rank(config: Mapping[str, Any]) -> int:
    """Return the largest rank that a LoRA adapter has anywhere, 0 where its configuration names none."""
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    return max((rank for rank in ranks if isinstance(rank, int)), default=0)


def read(folder: Path) -> Shapes:
    """Return the shape of each of an adapter's tensors; raise ValueError for what cannot be served.

    Raises FileNotFoundError where there is no safetensors file.
    """
    read_config(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no {WEIGHTS} (SERVING_ALLOW_PICKLE loads other files)")
    shapes = headers.read(path)
    weights.refuse_empty(folder, shapes)
    return shapes
