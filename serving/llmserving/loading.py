"""From folders to a model in memory: the base, a LoRA adapter merged into it, or a full fine-tuned checkpoint."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationConfig
from transformers.utils.logging import disable_progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PretrainedConfig, PreTrainedModel

    from llmserving.settings import Settings

log = logging.getLogger(__name__)

ADVICE = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class Folders:
    """Where the weights, the adapter if there is one, and the tokenizer are."""

    weights: Path
    adapter: Path | None
    tokenizer: Path


def find_folders(settings: Settings) -> Folders:
    """Return which folder holds what; raise ValueError with the name of what is missing."""
    base = settings.model_dir
    if base is None or not (base / "config.json").is_file():
        raise ValueError(f"{base}: no config.json, so no model in Hugging Face's format")
    if settings.checkpoint_dir is None:
        return Folders(base, None, base)
    checkpoint = _checkpoint(settings.checkpoint_dir)
    tokenizer = checkpoint if (checkpoint / "tokenizer_config.json").is_file() else base
    if (checkpoint / "adapter_config.json").is_file():
        return Folders(base, checkpoint, tokenizer)
    return Folders(checkpoint, None, tokenizer)


def _checkpoint(folder: Path) -> Path:
    """Return the folder itself, or the one inside it: Ray Train reports a checkpoint as <folder>/checkpoint."""
    for candidate in (folder, folder / "checkpoint"):
        if any((candidate / name).is_file() for name in ("adapter_config.json", "config.json")):
            return candidate
    raise ValueError(f"{folder}: neither adapter_config.json (LoRA) nor config.json (a full checkpoint)")


def read_config(settings: Settings, folders: Folders) -> PretrainedConfig:
    """Return the model's configuration; raise ValueError for a model that cannot be served here."""
    config = AutoConfig.from_pretrained(
        folders.weights, local_files_only=True, trust_remote_code=settings.trust_remote_code
    )
    if config.is_encoder_decoder:
        raise ValueError(f"{folders.weights}: an encoder-decoder model; only models that continue text are served")
    actual = (getattr(config, "quantization_config", None) or {}).get("quant_method")
    if settings.quantization and actual != settings.quantization:
        raise ValueError(f"{folders.weights}: quantised by {actual}, not by {settings.quantization}")
    return config


def context_length(config: PretrainedConfig, settings: Settings) -> int:
    """Return the longest prompt and answer together, in tokens."""
    own: int = getattr(config.get_text_config(), "max_position_embeddings", 0) or settings.max_length or 2048
    if settings.max_length and settings.max_length > own:
        raise ValueError(f"max_length {settings.max_length}: the model itself goes to {own} tokens")
    return settings.max_length or own


def read_generation_config(folders: Folders) -> GenerationConfig:
    """Return the authors' advice on sampling, and the ids that end an answer."""
    for folder in (folders.adapter, folders.weights):
        if folder is not None and (folder / "generation_config.json").is_file():
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
    config = json.loads((folders.weights / "config.json").read_text(encoding="utf-8"))
    return GenerationConfig(eos_token_id=config.get("eos_token_id"))


def stop_ids(generation: GenerationConfig) -> frozenset[int]:
    """Return the ids that end an answer: chat models have several."""
    ids = generation.eos_token_id
    return frozenset() if ids is None else frozenset([ids] if isinstance(ids, int) else ids)


def sampling_advice(generation: GenerationConfig) -> Mapping[str, Any]:
    """Return what a request that says nothing gets; plain sampling where the authors say nothing either."""
    values = {name: getattr(generation, name, None) for name in ADVICE}
    if generation.do_sample is False:
        values["temperature"] = 0.0
    return {name: value for name, value in values.items() if value is not None}


def pick_device(settings: Settings) -> torch.device:
    """Return the device to compute on; raise RuntimeError for a GPU that is asked for and not there."""
    if settings.device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"device {device}: torch sees no GPU (driver, CUDA build of torch, or no GPU given?)")
    return device


def pick_dtype(settings: Settings, device: torch.device) -> str:
    """Return the type to compute in: half precision is slower on most CPUs."""
    return "float32" if settings.dtype == "auto" and device.type == "cpu" else settings.dtype


def load_model(settings: Settings, folders: Folders, config: PretrainedConfig) -> PreTrainedModel:
    """Return the model in memory, its adapter merged, ready to continue text."""
    disable_progress_bar()  # a server's log is no terminal
    torch.set_num_threads(settings.model_threads)  # Ray sets OMP_NUM_THREADS=1 in its actors
    device = pick_device(settings)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folders.weights,
        config=config,
        dtype=pick_dtype(settings, device),
        local_files_only=True,
        use_safetensors=None if settings.allow_pickle else True,
        trust_remote_code=settings.trust_remote_code,
    )
    if folders.adapter is not None:
        model = merge_adapter(model, folders.adapter, folders.tokenizer, settings)
    log.info("loaded %s, adapter %s, on %s as %s", folders.weights, folders.adapter, device, model.dtype)
    return model.to(device).eval()


def merge_adapter(model: PreTrainedModel, adapter: Path, tokenizer: Path, settings: Settings) -> PreTrainedModel:
    """Return the model with its adapter's weights added in: nothing is left to pay for at each token."""
    from peft import PeftModel  # noqa: PLC0415 - only where there is an adapter

    tokens = _added_tokens(tokenizer)
    if tokens > model.get_input_embeddings().num_embeddings:  # fine-tuning added tokens
        model.resize_token_embeddings(tokens)
    if not settings.allow_pickle and not (adapter / "adapter_model.safetensors").is_file():
        raise ValueError(f"{adapter}: no adapter_model.safetensors (SERVING_ALLOW_PICKLE loads other files)")
    merged: PreTrainedModel = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    return merged


def _added_tokens(folder: Path) -> int:
    """Return how many tokens the tokenizer of a folder has, without loading it."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return 0
    data = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = data["model"].get("vocab", ())
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    return 1 + max([*ids, *(token["id"] for token in data.get("added_tokens", ()))], default=-1)


def load_encoder(folder: Path, settings: Settings) -> PreTrainedModel:
    """Return an encoder for embeddings."""
    model: PreTrainedModel = AutoModel.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=None if settings.allow_pickle else True,
        trust_remote_code=settings.trust_remote_code,
    )
    return model.to(pick_device(settings)).eval()
