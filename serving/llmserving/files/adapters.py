"""The kinds of adapters that are served, and the files of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import headers, weights
from .folders import ADAPTER_CONFIG
from .headers import Shapes
from .objects import read_object

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"

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
    headers.refuse_other_kinds(path, path.read_bytes()[: headers.LOOK])
    config = read_object(path)
    kind = str(config.get("peft_type") or "")
    if not kind:
        raise ValueError(f"{path}: does not say what kind of adapter it is (peft_type)")
    if kind in BESIDE_THE_LAYERS:
        raise ValueError(f"{path}: peft_type {kind} is not served: {SERVED} are")
    if config.get("alora_invocation_tokens"):
        raise ValueError(
            f"{path}: an activated LoRA (alora_invocation_tokens), which is on for a part of each text, "
            f"is not served: {SERVED} are"
        )
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise ValueError(f"{path}: task_type {config['task_type']}: an adapter that does not continue text")
    return config


def largest_rank(config: Mapping[str, Any]) -> int:
    """Return the largest rank that a LoRA adapter has anywhere, 0 where its configuration names none."""
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    return max((rank for rank in ranks if isinstance(rank, int)), default=0)


def file(folder: Path) -> Path:
    """Return the file that an adapter's tensors are loaded from: a pickle only where nothing else is there."""
    path = folder / WEIGHTS
    return path if path.is_file() else folder / PICKLE


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
