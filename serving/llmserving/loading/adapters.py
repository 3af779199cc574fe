"""An adapter: merged into the weights where that says the same, else beside them."""

from __future__ import annotations

import gc
import itertools
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmserving.files import adapters as kinds
from llmserving.files import wrappers
from llmserving.files.folders import ADAPTER_CONFIG, Folders
from llmserving.files.headers import Shapes
from llmserving.loading import memory, merging, vocabulary
from llmserving.loading.report import Known, Report
from llmserving.loading.weights import check

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from llmserving.settings import Settings

log = logging.getLogger(__name__)

NATIVE = "base_model.model."  # what PEFT puts before each name
NAME = "default"
TWICE = ".modules_to_save."  # a module that PEFT saved under this name and, in newer files, under its own as well
# Parts of the adapter that PEFT keeps once and shows at each layer, or that are left from the training.
SHARED = ("vblora_vector_bank", "prompt_encoder", ".tinylora_v.", ".unilora_theta_d.")


def apply(load: Callable[[], PreTrainedModel], folders: Folders, settings: Settings) -> PreTrainedModel:
    """Return a model with its adapter, ready to continue text; raise ValueError for one that does not fit.

    `load` returns the base, anew each time: merging changes its weights, and may have to be taken back.
    """
    words, merged = _merged(attach(load(), folders, settings))
    if words.base.isnan().any():
        raise ValueError(f"{folders.weights}: the model's logits are not numbers: it holds NaN or infinity")
    if words.beside.isnan().any():
        raise ValueError(f"{folders.adapter}: with it the model's logits are not numbers: it holds NaN or infinity")
    if words.unchanged:
        log.warning("%s: it changes nothing that the model says: is it the one that was trained?", folders.adapter)
    if merged is not None:
        if words.are_of(merged):
            return merged
        log.warning("%s: merged, it does not say what it says beside the weights", folders.adapter)
    log.warning("%s: served beside the weights, not merged, which is slower", folders.adapter)
    del merged
    gc.collect()  # the first load, whose parts may know each other, would lie in memory beside the second
    model: PreTrainedModel = attach(load(), folders, settings).get_base_model()
    if not words.are_of(model):
        raise ValueError(f"{folders.adapter}: it acts outside of the model's layers: {kinds.SERVED} are served")
    return model


def attach(model: PreTrainedModel, folders: Folders, settings: Settings) -> PeftModel:
    """Return the model with its adapter beside it; raise ValueError for one that does not fit, or is not whole."""
    from peft import PeftConfig, PeftModel, PeftModelForCausalLM  # noqa: PLC0415 - only where there is an adapter

    folder = folders.adapter
    assert folder is not None
    said = kinds.read_config(folder)
    vocabulary.fit(model, folder, _shapes(folder), folders.tokenizer)
    config = PeftConfig.from_pretrained(folder)
    config.inference_mode = True
    kind = PeftModelForCausalLM if said.get("task_type") else PeftModel
    try:
        empty = model.device.type == "meta"  # names and sizes alone are checked
        adapter = kind(model, config, NAME, low_cpu_mem_usage=empty)
        with native_names(folder) as place:
            said_once = _shapes(place)
            result = adapter.load_adapter(place, NAME, torch_device=_device(model), low_cpu_mem_usage=empty)
    except KeyError as error:
        raise ValueError(f"{folder}: {error} is missing: the adapter was not saved whole") from error
    except (RuntimeError, ValueError, NotImplementedError) as error:
        if memory.is_out(error):
            raise
        raise ValueError(f"{folder}: the adapter does not fit the model in {folders.weights}: {error}") from error
    missing = [name for name in result.missing_keys if not any(part in name for part in SHARED)]
    unused = [name for name in result.unexpected_keys if not (TWICE in name and name.replace(TWICE, ".") in said_once)]
    check(folder, Report(frozenset(missing), frozenset(unused)), Known(), settings)
    return adapter.eval()


def _device(model: PreTrainedModel) -> str:
    """Return where an adapter's tensors are read to: a file cannot be read to nowhere."""
    return "cpu" if model.device.type == "meta" else str(model.device)


def own_weights(adapter: PeftModel) -> None:
    """Give a layer that the adapter changes a copy of the weights that it shares with another.

    Merged into shared weights, a change would be another layer's too: tied embeddings, replicated layers.
    """
    holders: dict[int, list[tuple[torch.nn.Module, str]]] = {}
    changed: set[int] = set()
    for module in adapter.modules():
        for name, parameter in module.named_parameters(recurse=False):
            holders.setdefault(id(parameter), []).append((module, name))
        if hasattr(module, "base_layer"):
            changed.update(id(parameter) for parameter in module.base_layer.parameters())
    shared = [found for key, found in holders.items() if key in changed and len(found) > 1]
    for module, name in itertools.chain.from_iterable(found[1:] for found in shared):
        old = getattr(module, name)
        setattr(module, name, torch.nn.Parameter(old.detach().clone(), requires_grad=False))
    if shared:
        config = adapter.get_base_model().config
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False


def _merged(adapter: PeftModel) -> tuple[merging.Words, PreTrainedModel | None]:
    """Return what the adapter says beside the weights, and the merged model; None where it cannot be merged."""
    own_weights(adapter)
    base = adapter.get_base_model()
    ids = merging.probe(base, _named_tokens(adapter))
    beside = merging.logits(adapter, ids)
    with adapter.disable_adapter():
        words = merging.Words(ids, beside, merging.logits(adapter, ids), merging.rounding(base))
    try:
        merged: PreTrainedModel = adapter.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, ValueError, TypeError, RuntimeError) as error:
        if memory.is_out(error):
            raise
        log.info("this kind of adapter cannot be merged: %s", error)
        return words, None
    return words, merged.eval()


def _named_tokens(adapter: PeftModel) -> list[int]:
    """Return some of the tokens that the adapter has vectors for."""
    config = adapter.peft_config[NAME]
    indices: Any = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or []
    if isinstance(indices, dict):
        indices = itertools.chain.from_iterable(indices.values())
    return list(itertools.islice(indices, merging.PROBE_TOKENS))


def _shapes(folder: Path) -> Shapes:
    try:
        return kinds.read(folder)
    except FileNotFoundError:
        return _pickled_shapes(folder / kinds.PICKLE)


def _pickled_shapes(path: Path) -> Shapes:
    try:
        pickled = torch.load(path, map_location="meta", weights_only=True)
        return {name: tuple(tensor.shape) for name, tensor in pickled.items()}
    except Exception as error:
        raise ValueError(f"{path}: no pickle of tensors: {type(error).__name__}: {error}") from error


@contextmanager
def native_names(folder: Path) -> Iterator[Path]:
    """Lend the adapter's folder, or, where its names are a wrapper's, one with the names as PEFT has them."""
    shapes = _shapes(folder)
    renamed = rename(shapes)
    if all(old == new for old, new in renamed.items()) or not (folder / kinds.WEIGHTS).is_file():
        yield folder
        return
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - seldom needed

    log.info("%s: its names are those of a wrapper of the training, taken off", folder)
    with tempfile.TemporaryDirectory(prefix="adapter-") as view:
        shutil.copy(folder / ADAPTER_CONFIG, view)
        tensors = load_file(folder / kinds.WEIGHTS)
        save_file({renamed[name]: tensor for name, tensor in tensors.items()}, Path(view) / kinds.WEIGHTS)
        yield Path(view)


def rename(shapes: Shapes) -> dict[str, str]:
    """Return each tensor's name as PEFT has it."""
    patterns = wrappers.found_in(shapes, before_all=("module.",))
    bare = {name: wrappers.strip(name, patterns) for name in shapes}
    bare = {name: new if new.replace(TWICE, ".") in shapes else new.replace(TWICE, ".") for name, new in bare.items()}
    if any(name.startswith("base_model.") for name in bare.values()):
        return bare
    return {name: NATIVE + new for name, new in bare.items()}
