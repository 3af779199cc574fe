"""Load a model as the engine's process does, without an engine, and ask it and its peers what comes next."""

from __future__ import annotations

import json
import shutil

import torch
from llmserving import loading
from llmserving.settings import from_mapping
from safetensors.torch import load_file, save_file

IDS = torch.arange(0, 400, 7).unsqueeze(0)  # of the tiny model's 400


def load(base, checkpoint=None, **more):
    """Return the model that would be served."""
    settings = from_mapping({"model_dir": base, "checkpoint_dir": checkpoint, "engine": "generate", **more})
    folders = loading.find_folders(settings)
    return loading.load_model(settings, folders, loading.read_config(settings, folders))


@torch.inference_mode()
def logits(model, ids=IDS):
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def off(model, peer, ids=IDS):
    """Return by how much two models differ in what they say."""
    return (logits(model, ids) - logits(peer, ids)).abs().max().item()


def from_transformers(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def from_peft(base, adapter, tokens=None):
    """Return PEFT's own model, its adapter beside the weights."""
    from peft import PeftModel

    model = from_transformers(base)
    if tokens:
        model.resize_token_embeddings(tokens)
    return PeftModel.from_pretrained(model, adapter).eval()


def copy(folder, target):
    return shutil.copytree(folder, target)


def edit_json(path, **values):
    """Change fields of a JSON file; None takes one out."""
    said = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in said.items() if value is not None}))


def edit_tensors(path, change):
    """Write a safetensors file anew with what `change` makes of its tensors."""
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path, {"format": "pt"})


def is_merged(model):
    """Return whether nothing of PEFT is left in a model."""
    return not any(type(module).__module__.startswith("peft") for module in model.modules())
